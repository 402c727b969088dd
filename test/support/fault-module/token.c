/*
 * Slots, tokens, sessions and logins: a removed token, a library that has failed, limits on sessions, hidden
 * mechanisms, and a counter of wrong PINs that outlives the process, as on a real token.
 */
#define _GNU_SOURCE
#include "fault.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* A slot that is listed first and for which one function fails. */
#define BROKEN_SLOT 0x7FUL

static bool is_broken(CK_SLOT_ID slot) { return control->broken_slot != FUNCTION_COUNT && slot == BROKEN_SLOT; }

static CK_RV list_with_broken(CK_BBOOL present, CK_SLOT_ID *slots, CK_ULONG *count) {
  CK_ULONG behind = slots == NULL || *count == 0 ? 0 : *count - 1;
  bool room = slots != NULL && *count > 0;
  CK_RV rv = target->C_GetSlotList(present, room ? slots + 1 : NULL, &behind);
  *count = behind + 1;
  if (rv != CKR_OK || slots == NULL) return rv;
  if (!room) return CKR_BUFFER_TOO_SMALL;
  slots[0] = BROKEN_SLOT;
  return CKR_OK;
}

CK_RV emulated_C_GetSlotList(CK_BBOOL present, CK_SLOT_ID *slots, CK_ULONG *count) {
  if (life == DEAD) return CKR_DEVICE_ERROR;
  if (life == EMPTY || (control->token_removed && present)) {
    *count = 0;
    return CKR_OK;
  }
  if (control->broken_slot != FUNCTION_COUNT) return list_with_broken(present, slots, count);
  CK_RV rv = target->C_GetSlotList(present, slots, count);
  if (rv == CKR_OK && slots == NULL) *count += control->extra_slots;
  return rv;
}

CK_RV emulated_C_GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO *info) {
  if (life == EMPTY) return CKR_SLOT_ID_INVALID;
  if (is_broken(slot)) {
    if (control->broken_slot == F_C_GetSlotInfo) return control->broken_slot_rv;
    memset(info, ' ', sizeof *info);
    info->flags = CKF_TOKEN_PRESENT;
    return CKR_OK;
  }
  CK_RV rv = target->C_GetSlotInfo(slot, info);
  if (rv == CKR_OK && control->token_removed) info->flags &= ~CKF_TOKEN_PRESENT;
  return rv;
}

/* ---- the PIN counter ---- */

/* Opens and locks the counter; closing it unlocks. */
static int pin_open(unsigned long *wrong) {
  char text[32] = "";
  int file = open(control->pin_file, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0 || flock(file, LOCK_EX) != 0 || pread(file, text, sizeof text - 1, 0) < 0) {
    perror("fault-module: pin-counter");
    abort();
  }
  *wrong = strtoul(text, NULL, 10);
  return file;
}

static void pin_write(int file, unsigned long wrong) {
  if (ftruncate(file, 0) != 0 || lseek(file, 0, SEEK_SET) != 0 || dprintf(file, "%lu\n", wrong) < 0) abort();
}

CK_RV login_as(CK_SESSION session, CK_ULONG user, CK_BYTE *pin, CK_ULONG length) {
  if (user != CKU_USER) return target->C_Login(session, user, pin, length);
  if (control->pin_file == NULL) return login_of_load(target->C_Login(session, user, pin, length), pin, length);
  unsigned long wrong;
  int file = pin_open(&wrong);
  CK_RV rv = CKR_PIN_LOCKED;
  if (wrong < control->pin_limit) {
    rv = login_of_load(target->C_Login(session, user, pin, length), pin, length);
    if (rv == CKR_OK) pin_write(file, 0);
    if (rv == CKR_PIN_INCORRECT) pin_write(file, wrong + 1);
  }
  close(file);
  return rv;
}

static CK_ULONG pin_flags(void) {
  unsigned long wrong;
  close(pin_open(&wrong));
  if (wrong >= control->pin_limit) return CKF_USER_PIN_LOCKED;
  CK_ULONG flags = wrong > 0 ? CKF_USER_PIN_COUNT_LOW : 0;
  return control->pin_limit - wrong == 1 ? flags | CKF_USER_PIN_FINAL_TRY : flags;
}

CK_RV emulated_C_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO *info) {
  if (is_broken(slot)) return control->broken_slot == F_C_GetTokenInfo ? control->broken_slot_rv : CKR_TOKEN_NOT_PRESENT;
  CK_RV rv = target->C_GetTokenInfo(slot, info);
  if (rv != CKR_OK) return rv;
  if (control->session_limit != NO_LIMIT) info->max_sessions = info->max_rw_sessions = control->session_limit;
  if (control->pin_length_max > 0) {
    info->min_pin = control->pin_length_min;
    info->max_pin = control->pin_length_max;
  }
  if (control->pin_keypad) info->flags |= CKF_PROTECTED_AUTHENTICATION_PATH;
  if (control->pin_file != NULL) {
    info->flags &= ~(CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED);
    if (!control->pin_silent) info->flags |= pin_flags();
  }
  quirks_token_info(info);
  return rv;
}

CK_RV emulated_C_SetPIN(CK_SESSION session, CK_BYTE *old, CK_ULONG old_length, CK_BYTE *new_pin, CK_ULONG new_length) {
  if (control->pin_length_max > 0 && (new_length < control->pin_length_min || new_length > control->pin_length_max))
    return CKR_PIN_LEN_RANGE;
  return target->C_SetPIN(session, old, old_length, new_pin, new_length);
}

/* ---- mechanisms ---- */

bool mechanism_hidden(CK_ULONG type) {
  if (type == CKM_AES_GCM && control->gcm_mechanism != CKM_AES_GCM) return true;
  if (control->only_mechanisms.length > 0 && !list_has(&control->only_mechanisms, type)) return true;
  return list_has(&control->no_mechanism, type);
}

CK_RV emulated_C_GetMechanismList(CK_SLOT_ID slot, CK_ULONG *mechanisms, CK_ULONG *count) {
  CK_ULONG total = 0, kept = 0;
  CK_RV rv = target->C_GetMechanismList(slot, NULL, &total);
  if (rv != CKR_OK) return rv;
  CK_ULONG *all = calloc(total + 1, sizeof *all);
  if (all == NULL) return CKR_HOST_MEMORY;
  rv = target->C_GetMechanismList(slot, all, &total);
  for (CK_ULONG i = 0; rv == CKR_OK && i < total; i++) {
    CK_ULONG type = all[i] == CKM_AES_GCM ? control->gcm_mechanism : all[i];
    if (!mechanism_hidden(type) && !list_has(&control->unlisted_mechanism, type)) all[kept++] = type;
  }
  if (rv == CKR_OK && mechanisms != NULL && *count < kept) rv = CKR_BUFFER_TOO_SMALL;
  for (CK_ULONG i = 0; rv == CKR_OK && mechanisms != NULL && i < kept; i++) mechanisms[i] = all[i];
  free(all);
  *count = kept;
  return rv;
}

CK_RV emulated_C_GetMechanismInfo(CK_SLOT_ID slot, CK_ULONG type, void *info) {
  if (mechanism_hidden(type)) return CKR_MECHANISM_INVALID;
  return target->C_GetMechanismInfo(slot, type == control->gcm_mechanism ? CKM_AES_GCM : type, info);
}

/* ---- sessions ---- */

CK_RV emulated_C_OpenSession(CK_SLOT_ID slot, CK_ULONG flags, void *application, void *notify, CK_SESSION *session) {
  if (control->refuse_ro_sessions != CKR_OK && (flags & CKF_RW_SESSION) == 0) return control->refuse_ro_sessions;
  CK_RV rv = sessions_reserve();
  if (rv == CKR_OK) rv = target->C_OpenSession(slot, flags, application, notify, session);
  if (rv != CKR_OK) return rv;
  sessions_add(*session, slot);
  sessions_publish();
  return CKR_OK;
}

CK_RV emulated_C_CloseSession(CK_SESSION session) {
  CK_RV rv = target->C_CloseSession(session);
  if (rv != CKR_OK) return rv;
  sessions_remove(session);
  sessions_publish();
  return CKR_OK;
}

CK_RV emulated_C_CloseAllSessions(CK_SLOT_ID slot) {
  CK_RV rv = target->C_CloseAllSessions(slot);
  if (rv == CKR_OK) sessions_remove_slot(slot);
  return rv;
}
