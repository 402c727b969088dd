/*
 * A PKCS#11 module that forwards every call to another one and, on the way, does what its control file says:
 * delays, errors, crashes and the behaviour of tokens that the tests do not have. README.md documents the control file.
 * This file holds the wrappers and the checks that all calls of a scope share.
 */
#define _GNU_SOURCE
#include "fault.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#define DEFAULT_TARGET "/usr/lib/softhsm/libsofthsm2.so"

CK_FUNCTION_LIST *target;
_Thread_local struct control *control;
_Atomic enum life life = ALIVE;
static atomic_bool initialised;
static CK_FUNCTION_LIST wrapped;

#define FUNCTION_NAME(name, scope, kind, parameters, arguments) #name,
const char *const function_names[FUNCTION_COUNT] = {CRYPTOKI_FUNCTIONS(FUNCTION_NAME)};

void random_bytes(CK_BYTE *out, size_t length) {
  if (getrandom(out, length, 0) != (ssize_t)length) abort();
}

/* ---- checks by scope ---- */

static CK_RV check_free(void) { return CKR_OK; }

static CK_RV check_library(void) { return life == DEAD ? CKR_DEVICE_ERROR : CKR_OK; }

static CK_RV check_slot(void) {
  if (life != ALIVE) return CKR_DEVICE_ERROR;
  return control->token_removed ? CKR_TOKEN_NOT_PRESENT : CKR_OK;
}

static CK_RV check_session(CK_SESSION handle) {
  if (life != ALIVE) return CKR_DEVICE_ERROR;
  if (control->token_removed) return CKR_DEVICE_REMOVED;
  struct session *session = sessions_find(handle);
  if (session != NULL && session->lost) {
    /* Closed by the thread that uses it, not when it was lost: another thread may have been in a call on it. */
    target->C_CloseSession(handle);
    sessions_remove(handle);
    return CKR_SESSION_HANDLE_INVALID;
  }
  return CKR_OK;
}

static CK_RV check_mechanism(enum function function, CK_SESSION handle, const CK_MECHANISM *mechanism) {
  CK_RV rv = check_session(handle);
  if (rv == CKR_OK && login_is_missing(handle)) rv = CKR_USER_NOT_LOGGED_IN;
  if (rv != CKR_OK || mechanism == NULL) return rv;
  if (mechanism_hidden(mechanism->type) || list_has(&control->refuse_mechanism, mechanism->type))
    return CKR_MECHANISM_INVALID;
  bool encrypts = function == F_C_EncryptInit || function == F_C_WrapKey;
  if (encrypts && list_has(&control->decrypt_only, mechanism->type)) return CKR_KEY_FUNCTION_NOT_PERMITTED;
  return control->error_mechanism == mechanism->type ? control->error_mechanism_rv : CKR_OK;
}

/* ---- one call ---- */

struct call {
  struct control *outer;
  double started;
};

/* Returns true if a rule has already decided the result. */
static bool call_enter(struct call *call, enum function function, CK_RV *rv) {
  call->outer = control;
  control = control_acquire();
  call->started = control->log[function] ? now_ms() : 0;
  trace_count(control, function);
  if (control->device_error && initialised && life == ALIVE) life = DEAD;
  if (control->session_loss && !atomic_exchange(&control->session_loss_done, true)) sessions_lose();
  if (control->token_removed && !atomic_exchange(&control->token_removed_done, true)) sessions_lose();
  if (control->logout && !atomic_exchange(&control->logout_done, true)) {
    if (control->login_per_load) login_forget();
    else sessions_logout();
  }
  quirks_enter();
  return rules_apply(control, function, false, rv);
}

static CK_RV call_leave(struct call *call, enum function function, CK_RV rv) {
  rules_apply(control, function, true, &rv);
  quirks_leave();
  if (control->log[function]) trace_log(function, rv, call->started);
  control_release(control);
  control = call->outer;
  return rv;
}

#define CHECK_FREE(name, arguments) check_free()
#define CHECK_LIBRARY(name, arguments) check_library()
#define CHECK_SLOT(name, arguments) check_slot()
#define CHECK_SESSION(name, arguments) check_session(session)
#define CHECK_MECHANISM(name, arguments) check_mechanism(F_##name, session, mechanism)

#define CALL_FORWARDED(name, arguments) target->name arguments
#define CALL_EMULATED(name, arguments) emulated_##name arguments

#define WRAPPER_BODY(name, scope, kind, parameters, arguments)            \
  static CK_RV wrapped_##name parameters {                                \
    struct call call;                                                     \
    CK_RV rv;                                                             \
    if (!call_enter(&call, F_##name, &rv)) {                              \
      rv = CHECK_##scope(name, arguments);                                      \
      if (rv == CKR_OK) rv = CALL_##kind(name, arguments);                \
    }                                                                     \
    return call_leave(&call, F_##name, rv);                               \
  }
#define WRAPPER_FORWARDED WRAPPER_BODY
#define WRAPPER_EMULATED WRAPPER_BODY
#define WRAPPER_OWN(name, scope, kind, parameters, arguments)
#define WRAPPER(name, scope, kind, parameters, arguments) WRAPPER_##kind(name, scope, kind, parameters, arguments)
CRYPTOKI_FUNCTIONS(WRAPPER)

/* ---- life of the library ---- */

/* Whether no other process has initialised the library. The lock ends with this process. */
static bool is_alone(const char *path) {
  static int held = -1;
  if (held >= 0) return true;
  int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) abort();
  if (flock(file, LOCK_EX | LOCK_NB) == 0) held = file;
  else close(file);
  return held >= 0;
}

CK_RV emulated_C_Initialize(void *arguments) {
  if (control->exclusive_file != NULL && !is_alone(control->exclusive_file)) return control->exclusive_rv;
  if (control->store_at_load && !initialised) store_load();
  CK_RV rv = CKR_OK;
  void *accepted = quirks_initialize(arguments, &rv);
  if (rv != CKR_OK) return rv;
  rv = target->C_Initialize(accepted);
  if (rv != CKR_OK) return login_initialised(rv);
  if (rv == CKR_OK) {
    sessions_clear();
    life = control->device_error ? EMPTY : ALIVE;
    initialised = true;
  }
  return rv;
}

CK_RV emulated_C_Finalize(void *reserved) {
  CK_RV rv = target->C_Finalize(reserved);
  if (rv == CKR_OK) {
    sessions_clear();
    initialised = false;
    life = ALIVE;
  }
  return rv;
}

/* ---- loading ---- */

static void load_target(void) {
  struct control *now = control_acquire();
  const char *path = getenv("FAULT_MODULE_TARGET");
  if (path == NULL) path = now->target != NULL ? now->target : DEFAULT_TARGET;
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  CK_RV (*get)(CK_FUNCTION_LIST **) = NULL;
  if (library != NULL) *(void **)&get = dlsym(library, "C_GetFunctionList");
  if (get == NULL || get(&target) != CKR_OK) {
    fprintf(stderr, "fault-module: cannot load the target %s: %s\n", path, dlerror());
    target = NULL;
  }
  if (target != NULL) target = quirks_before(target);
  control_release(now);
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, load_target);
  if (target == NULL) return CKR_GENERAL_ERROR;
  struct call call;
  CK_RV rv = CKR_OK;
  if (!call_enter(&call, F_C_GetFunctionList, &rv)) {
#define ENTRY_FORWARDED(name) wrapped.name = wrapped_##name;
#define ENTRY_EMULATED(name) wrapped.name = wrapped_##name;
#define ENTRY_OWN(name) wrapped.name = C_GetFunctionList;
#define ENTRY_LACKING(name) if (control->lacks[F_##name]) wrapped.name = NULL;
#define ENTRY(name, scope, kind, parameters, arguments) ENTRY_##kind(name) ENTRY_LACKING(name)
    CRYPTOKI_FUNCTIONS(ENTRY)
    wrapped.version = target->version;
    *list = &wrapped;
    rv = CKR_OK;
  }
  return call_leave(&call, F_C_GetFunctionList, rv);
}

static void apply_alone(enum function function) {
  struct control *now = control_acquire();
  CK_RV ignored;
  rules_apply(now, function, false, &ignored);
  control_release(now);
}

__attribute__((constructor)) static void at_load(void) { apply_alone(F_AT_LOAD); }
__attribute__((destructor)) static void at_exit(void) { apply_alone(F_AT_EXIT); }
