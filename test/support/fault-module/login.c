/*
 * Roles, and logins that are valid for less than the process: for one load of the library, as with p11-kit-client, where each
 * thread that has loaded this module is a separate application; or for the one session that logged in.
 */
#include "fault.h"

#include <pthread.h>
#include <string.h>

#define PIN_LIMIT 256

static _Thread_local bool initialised, logged_in;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* The PIN that the target has accepted. Once the process is logged in, the target does not check a PIN. */
static CK_BYTE accepted[PIN_LIMIT];
static CK_ULONG accepted_length;

bool login_is_missing(CK_SESSION session) {
  struct session *known = sessions_find(session);
  if (control->login_per_session && known != NULL && !known->logged_in) return true;
  return control->login_per_load && !logged_in;
}

void login_forget(void) { logged_in = false; }

CK_RV login_initialised(CK_RV rv) {
  if (!control->login_per_load || rv != CKR_CRYPTOKI_ALREADY_INITIALIZED || initialised) return rv;
  initialised = true;
  return CKR_OK;
}

CK_RV login_of_load(CK_RV rv, const CK_BYTE *pin, CK_ULONG length) {
  if (!control->login_per_load) return rv;
  pthread_mutex_lock(&lock);
  if (rv == CKR_OK && length <= PIN_LIMIT) {
    memcpy(accepted, pin, length);
    accepted_length = length;
  } else if (rv == CKR_USER_ALREADY_LOGGED_IN && !logged_in) {
    bool same = length == accepted_length && memcmp(accepted, pin, length) == 0;
    rv = same ? CKR_OK : CKR_PIN_INCORRECT;
  }
  pthread_mutex_unlock(&lock);
  if (rv == CKR_OK) logged_in = true;
  return rv;
}

CK_RV emulated_C_GetSessionInfo(CK_SESSION session, CK_SESSION_INFO *info) {
  CK_RV rv = target->C_GetSessionInfo(session, info);
  if (rv == CKR_OK && login_is_missing(session) && (info->state == CKS_RO_USER || info->state == CKS_RW_USER))
    info->state--;
  if (rv == CKR_OK && control->session_state != NO_LIMIT) info->state = control->session_state;
  return rv;
}

CK_RV emulated_C_Logout(CK_SESSION session) {
  if (!control->login_per_load) return target->C_Logout(session);
  if (!logged_in) return CKR_USER_NOT_LOGGED_IN;
  login_forget();
  return CKR_OK;
}

/* ---- a role that may use keys, but not make, change or destroy objects ---- */

static atomic_bool limited;

CK_RV role_check(void) { return control->role_pin != NULL && limited ? control->role_rv : CKR_OK; }

static CK_RV login_in_role(CK_SESSION session, CK_ULONG user, CK_BYTE *pin, CK_ULONG length) {
  if (control->role_pin == NULL) return login_as(session, user, pin, length);
  bool is_role = user == control->role_type && length == strlen(control->role_pin) &&
                 memcmp(pin, control->role_pin, length) == 0;
  if (user == control->role_type && user != CKU_USER && !is_role) return CKR_PIN_INCORRECT;
  CK_BYTE *real = is_role ? (CK_BYTE *)control->user_pin : pin;
  CK_RV rv = login_as(session, is_role ? CKU_USER : user, real, is_role ? strlen(control->user_pin) : length);
  if (rv == CKR_OK) limited = is_role;
  return rv;
}

CK_RV emulated_C_Login(CK_SESSION session, CK_ULONG user, CK_BYTE *pin, CK_ULONG length) {
  CK_RV rv = login_in_role(session, user, pin, length);
  struct session *known = sessions_find(session);
  if (known != NULL && (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN)) known->logged_in = true;
  return rv;
}
