// A PKCS#11 library that stands between pkcs11js and the vendor's library, for what pkcs11js 2.1.7 cannot do:
// - It calls another function than C_GetFunctionList, such as FC_GetFunctionList of NSS in FIPS mode.
// - It reads attributes with one call. pkcs11js first asks for their lengths, which on a shared partition costs a round
//   trip for each object.
// - Functions that the vendor's list lacks return CKR_FUNCTION_NOT_SUPPORTED, as the standard demands. pkcs11js would
//   call a null pointer.
// - It repeats C_Initialize without arguments if the library refuses those for a single thread.
// The environment names the library and the function, since C code does not see what a worker thread assigns to
// process.env.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { CKR_OK = 0x00, CKR_GENERAL_ERROR = 0x05, CKR_ARGUMENTS_BAD = 0x07, CKR_FUNCTION_NOT_SUPPORTED = 0x54 };
enum { CKR_ATTRIBUTE_SENSITIVE = 0x11, CKR_ATTRIBUTE_TYPE_INVALID = 0x12, CKR_OBJECT_HANDLE_INVALID = 0x82 };

// PKCS#11 v2.40: CK_ATTRIBUTE, and CK_FUNCTION_LIST with its functions in order.
struct attribute {
  unsigned long type;
  void *value;
  unsigned long length;
};
// A list of version 2.0 ends before the last function, C_WaitForSlotEvent.
enum { INITIALIZE = 0, GET_ATTRIBUTE_VALUE = 24, FUNCTIONS_OF_2_0 = 67, FUNCTIONS = 68 };
struct function_list {
  unsigned char major, minor;
  void *functions[FUNCTIONS];
};
// CK_C_INITIALIZE_ARGS; NSS has the library's parameters where pReserved is.
struct initialize_arguments {
  void *mutexes[4];
  unsigned long flags;
  void *reserved;
};
typedef unsigned long (*initialize)(const struct initialize_arguments *arguments);
typedef unsigned long (*get_function_list)(struct function_list **list);
typedef unsigned long (*get_attribute_value)(unsigned long session, unsigned long object, struct attribute *, unsigned long count);

// Enough for what is read of a key, whose longest value is the modulus of RSA with 4096 bits.
enum { MOST_ATTRIBUTES = 24, ROOM = 768 };

static void *library;

// Each thread loads the library for itself. Some libraries then return another list, with a login of its own.
static _Thread_local struct function_list list;
static _Thread_local get_attribute_value ask;
static _Thread_local initialize begin;

// What the last call has read, for the next call alone.
static _Thread_local unsigned long kept_session, kept_object, kept_count;
static _Thread_local struct attribute kept[MOST_ATTRIBUTES];
static _Thread_local unsigned char values[MOST_ATTRIBUTES][ROOM];

// A value may be secret: aes-kwp unwraps plaintext into a session object.
static void forget(void) {
  if (kept_count > 0) explicit_bzero(values, kept_count * ROOM);
  kept_count = 0;
}

static bool asks_for_lengths(const struct attribute *attributes, unsigned long count) {
  if (count == 0 || count > MOST_ATTRIBUTES) return false;
  for (unsigned long at = 0; at < count; at++)
    if (attributes[at].value != NULL) return false;
  return true;
}

// Errors of the object or its attributes, whatever the buffers are.
static bool is_final(unsigned long rv) {
  return rv == CKR_ATTRIBUTE_SENSITIVE || rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_OBJECT_HANDLE_INVALID;
}

// Reads values and returns their lengths alone; false if the library has to be asked for the lengths first. If a buffer is
// filled completely, the value may be longer, or the library may not have set the length.
static bool read_values(unsigned long session, unsigned long object, struct attribute *attributes, unsigned long count,
                        unsigned long *rv) {
  kept_session = session;
  kept_object = object;
  kept_count = count;
  for (unsigned long at = 0; at < count; at++) kept[at] = (struct attribute){attributes[at].type, values[at], ROOM};
  *rv = ask(session, object, kept, count);
  if (*rv != CKR_OK) return is_final(*rv);
  for (unsigned long at = 0; at < count; at++)
    if (kept[at].length >= ROOM) return false;
  for (unsigned long at = 0; at < count; at++) attributes[at].length = kept[at].length;
  return true;
}

static bool asks_for_kept(unsigned long session, unsigned long object, const struct attribute *attributes, unsigned long count) {
  if (count == 0 || count != kept_count || session != kept_session || object != kept_object) return false;
  for (unsigned long at = 0; at < count; at++) {
    const struct attribute *wanted = &attributes[at];
    if (wanted->type != kept[at].type || wanted->length != kept[at].length) return false;
    if (wanted->value == NULL && wanted->length > 0) return false;
  }
  return true;
}

static unsigned long read_at_once(unsigned long session, unsigned long object, struct attribute *attributes, unsigned long count) {
  unsigned long rv = CKR_OK;
  if (asks_for_kept(session, object, attributes, count)) {
    for (unsigned long at = 0; at < count; at++)
      if (kept[at].length > 0) memcpy(attributes[at].value, values[at], kept[at].length);
    forget();
    return CKR_OK;
  }
  forget();
  if (asks_for_lengths(attributes, count)) {
    bool read = read_values(session, object, attributes, count, &rv);
    if (read && rv == CKR_OK) return CKR_OK;
    forget();
    if (read) return rv;
  }
  return ask(session, object, attributes, count);
}

// Some libraries take nothing but a null pointer, which pkcs11js never passes.
static unsigned long initialize_or_without_arguments(const struct initialize_arguments *arguments) {
  unsigned long rv = begin(arguments);
  bool says_nothing = arguments != NULL && arguments->flags == 0 && arguments->reserved == NULL;
  return rv == CKR_ARGUMENTS_BAD && says_nothing ? begin(NULL) : rv;
}

static unsigned long unsupported(void) { return CKR_FUNCTION_NOT_SUPPORTED; }

static void copy_functions(const struct function_list *vendors) {
  unsigned long known = vendors->major < 2 || (vendors->major == 2 && vendors->minor == 0) ? FUNCTIONS_OF_2_0 : FUNCTIONS;
  list.major = vendors->major;
  list.minor = vendors->minor;
  for (unsigned long at = 0; at < FUNCTIONS; at++) {
    void *function = at < known ? vendors->functions[at] : NULL;
    list.functions[at] = function == NULL ? (void *)unsupported : function;
  }
}

// Returns the vendor's functions, except C_Initialize and C_GetAttributeValue; CKR_GENERAL_ERROR if its library cannot
// be loaded, and CKR_FUNCTION_NOT_SUPPORTED if that has no such function. The list is for the calling thread.
unsigned long C_GetFunctionList(struct function_list **functions) {
  const char *path = getenv("KMS_PKCS11_MODULE");
  const char *entry = getenv("KMS_PKCS11_MODULE_ENTRY");
  if (library == NULL && path != NULL) library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
  if (library == NULL) return CKR_GENERAL_ERROR;
  get_function_list function = (get_function_list)dlsym(library, entry == NULL ? "C_GetFunctionList" : entry);
  if (function == NULL) return CKR_FUNCTION_NOT_SUPPORTED;
  struct function_list *vendors = NULL;
  unsigned long rv = function(&vendors);
  if (rv != CKR_OK || vendors == NULL) return rv == CKR_OK ? CKR_GENERAL_ERROR : rv;
  copy_functions(vendors);
  begin = (initialize)list.functions[INITIALIZE];
  list.functions[INITIALIZE] = (void *)initialize_or_without_arguments;
  ask = (get_attribute_value)list.functions[GET_ATTRIBUTE_VALUE];
  list.functions[GET_ATTRIBUTE_VALUE] = (void *)read_at_once;
  *functions = &list;
  return CKR_OK;
}

// Unloads the vendor's library together with this one: later, libraries that it uses might have ended already.
__attribute__((destructor)) static void unload(void) {
  if (library != NULL) dlclose(library);
}
