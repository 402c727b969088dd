// Datagram sockets in the file system, such as /dev/log, which Node.js does not have. Nothing here blocks. Every function
// returns a negative errno if it fails. The declarations are those of Node-API version 8 (node_api.h).
#include <errno.h>
#include <linux/sockios.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct env *napi_env;
typedef struct value *napi_value;
typedef struct info *napi_info;
typedef napi_value (*napi_callback)(napi_env, napi_info);

extern int napi_get_cb_info(napi_env, napi_info, size_t *, napi_value *, napi_value *, void **);
extern int napi_get_value_string_utf8(napi_env, napi_value, char *, size_t, size_t *);
extern int napi_get_value_int32(napi_env, napi_value, int32_t *);
extern int napi_get_buffer_info(napi_env, napi_value, void **, size_t *);
extern int napi_create_int32(napi_env, int32_t, napi_value *);
extern int napi_create_function(napi_env, const char *, size_t, napi_callback, void *, napi_value *);
extern int napi_set_named_property(napi_env, napi_value, const char *, napi_value);

static napi_value number(napi_env env, int value) {
  napi_value result = NULL;
  napi_create_int32(env, value, &result);
  return result;
}

static int arguments(napi_env env, napi_info info, size_t wanted, napi_value *values) {
  size_t count = wanted;
  return napi_get_cb_info(env, info, &count, values, NULL, NULL) == 0 && count == wanted;
}

static int connect_to(const char *path, size_t length) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (length == 0 || length >= sizeof address.sun_path) return -ENAMETOOLONG;
  memcpy(address.sun_path, path, length);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

// open(path): returns a file descriptor that is connected to the socket.
static napi_value open_socket(napi_env env, napi_info info) {
  napi_value path;
  char text[256];
  size_t length;
  if (!arguments(env, info, 1, &path)) return number(env, -EINVAL);
  if (napi_get_value_string_utf8(env, path, text, sizeof text, &length) != 0) return number(env, -EINVAL);
  return number(env, connect_to(text, length));
}

// send(fd, buffer): returns 0 once the kernel has the datagram; -EAGAIN while the receiver's queue is full.
static napi_value send_datagram(napi_env env, napi_info info) {
  napi_value values[2];
  int32_t fd;
  void *bytes;
  size_t length;
  if (!arguments(env, info, 2, values)) return number(env, -EINVAL);
  if (napi_get_value_int32(env, values[0], &fd) != 0) return number(env, -EINVAL);
  if (napi_get_buffer_info(env, values[1], &bytes, &length) != 0) return number(env, -EINVAL);
  return number(env, send(fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0);
}

// unread(fd): returns the memory of the datagrams that the receiver has not read yet.
static napi_value unread(napi_env env, napi_info info) {
  napi_value value;
  int32_t fd;
  int bytes = 0;
  if (!arguments(env, info, 1, &value)) return number(env, -EINVAL);
  if (napi_get_value_int32(env, value, &fd) != 0) return number(env, -EINVAL);
  return number(env, ioctl(fd, SIOCOUTQ, &bytes) < 0 ? -errno : bytes);
}

static napi_value close_socket(napi_env env, napi_info info) {
  napi_value value;
  int32_t fd;
  if (!arguments(env, info, 1, &value)) return number(env, -EINVAL);
  if (napi_get_value_int32(env, value, &fd) != 0) return number(env, -EINVAL);
  return number(env, close(fd) < 0 ? -errno : 0);
}

static void export(napi_env env, napi_value exports, const char *name, napi_callback function) {
  napi_value value;
  if (napi_create_function(env, name, strlen(name), function, NULL, &value) == 0) {
    napi_set_named_property(env, exports, name, value);
  }
}

// Node.js calls this when the library is loaded.
napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  export(env, exports, "open", open_socket);
  export(env, exports, "send", send_datagram);
  export(env, exports, "unread", unread);
  export(env, exports, "close", close_socket);
  return exports;
}
