/*
 * Oddities of vendors' libraries: functions that are missing from the list, arguments of C_Initialize that are refused, values
 * in another form, attributes that are ignored, searches that return little at a time, something twice, or a new object
 * late, and handles that are valid in one session only.
 */
#define _GNU_SOURCE
#include "fault.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- C_Initialize and threads ---- */

struct initialize_arguments {
  void *create, *destroy, *lock, *unlock;
  CK_ULONG flags;
  void *reserved;
};
#define CKF_OS_LOCKING_OK 2UL

void *quirks_initialize(void *arguments, CK_RV *rv) {
  /* SoftHSM gets its locks in any case. */
  static struct initialize_arguments locking = {.flags = CKF_OS_LOCKING_OK};
  const struct initialize_arguments *given = arguments;
  if (control->no_initialize_arguments != CKR_OK) {
    if (given != NULL) *rv = control->no_initialize_arguments;
    return &locking;
  }
  if (control->no_locking != CKR_OK) {
    if (given != NULL && (given->flags & CKF_OS_LOCKING_OK) != 0) *rv = control->no_locking;
    return &locking;
  }
  return arguments;
}

static atomic_int inside;
static _Thread_local int depth;

void quirks_enter(void) {
  if (depth++ > 0) return;
  if (atomic_fetch_add(&inside, 1) > 0 && control->one_thread) {
    fprintf(stderr, "fault-module: one-thread: two threads are in the library\n");
    _exit(70);
  }
}

void quirks_leave(void) {
  if (--depth == 0) atomic_fetch_sub(&inside, 1);
}

/* ---- values ---- */

/* CKA_TOKEN, CKA_PRIVATE, and the boolean attributes of keys from CKA_SENSITIVE to CKA_ALWAYS_AUTHENTICATE. */
static bool is_boolean(CK_ULONG type) {
  return type == CKA_TOKEN || type == CKA_PRIVATE || (type >= 0x103 && type <= 0x10C) ||
         (type >= 0x162 && type <= 0x165) || type == 0x170 || type == 0x202;
}

static void lengthen(CK_ATTRIBUTE *attribute, CK_ULONG room, CK_ULONG length, CK_BYTE with, CK_RV *rv) {
  CK_ULONG old = attribute->length;
  if (old == ~0UL || old >= length) return;
  attribute->length = length;
  if (attribute->value == NULL) return;
  if (room < length) {
    attribute->length = ~0UL;
    *rv = CKR_BUFFER_TOO_SMALL;
    return;
  }
  memset((CK_BYTE *)attribute->value + old, with, length - old);
}

void quirks_read(CK_ATTRIBUTE *attributes, CK_ULONG count, const CK_ULONG *room, CK_RV *rv) {
  if (*rv != CKR_OK) return;
  for (CK_ULONG i = 0; i < count; i++) {
    const struct attribute_rule *pad = attribute_rule(&control->pad_attribute, attributes[i].type);
    if (list_has(&control->unavailable_attribute, attributes[i].type)) attributes[i].length = ~0UL;
    else if (pad != NULL) lengthen(&attributes[i], room[i], pad->value, attributes[i].type == CKA_LABEL ? ' ' : 0, rv);
    else if (control->wide_booleans > 0 && is_boolean(attributes[i].type))
      lengthen(&attributes[i], room[i], control->wide_booleans, 0, rv);
  }
}

CK_ULONG quirks_template(CK_ATTRIBUTE *attributes, CK_ULONG count) {
  CK_ULONG kept = 0;
  for (CK_ULONG i = 0; i < count; i++) {
    CK_ATTRIBUTE one = attributes[i];
    if (list_has(&control->ignore_in_templates, one.type)) continue;
    const struct attribute_rule *cut = attribute_rule(&control->cut_attribute, one.type);
    if (cut != NULL && one.length > cut->value) one.length = cut->value;
    attributes[kept++] = one;
  }
  return kept;
}

static void pad_with_nul(CK_BYTE *text, size_t length) {
  while (length > 0 && text[length - 1] == ' ') text[--length] = 0;
}

void quirks_token_info(CK_TOKEN_INFO *info) {
  info->flags = (info->flags & ~control->flags_cleared) | control->flags_set;
  if (!control->nul_padding) return;
  pad_with_nul(info->label, sizeof info->label);
  pad_with_nul(info->manufacturer, sizeof info->manufacturer);
  pad_with_nul(info->model, sizeof info->model);
  pad_with_nul(info->serial, sizeof info->serial);
}

/* ---- objects that are found late ---- */

#define NEW_OBJECTS 64
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { CK_OBJECT object; double at; } new_objects[NEW_OBJECTS];
static size_t next_new;

void quirks_made(CK_OBJECT object) {
  pthread_mutex_lock(&lock);
  new_objects[next_new].object = object;
  new_objects[next_new++].at = now_ms();
  next_new %= NEW_OBJECTS;
  pthread_mutex_unlock(&lock);
}

static bool is_new(CK_OBJECT object) {
  bool found = false;
  double now = now_ms();
  for (size_t i = 0; i < NEW_OBJECTS; i++)
    found |= new_objects[i].object == object && now - new_objects[i].at < (double)control->late_objects_ms;
  return found;
}

CK_ULONG quirks_findable(CK_OBJECT *objects, CK_ULONG count) {
  CK_ULONG kept = 0;
  if (control->late_objects_ms == 0) return count;
  pthread_mutex_lock(&lock);
  for (CK_ULONG i = 0; i < count; i++)
    if (!is_new(objects[i])) objects[kept++] = objects[i];
  pthread_mutex_unlock(&lock);
  return kept;
}

/* ---- handles of one session ---- */

static CK_FUNCTION_LIST *behind, before;

static CK_OBJECT shown(CK_SESSION session, CK_OBJECT object) {
  return control->handles_per_session ? object << 16 | (session & 0xFFFF) : object;
}

static bool own(CK_SESSION session, CK_OBJECT *object) {
  if (!control->handles_per_session) return true;
  if ((*object & 0xFFFF) != (session & 0xFFFF)) return false;
  *object >>= 16;
  return true;
}

#define CKR_KEY_HANDLE_INVALID 0x60UL
#define CKR_OBJECT_HANDLE_INVALID 0x82UL

#define INIT(name)                                                                     \
  static CK_RV before_##name(CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT key) { \
    return own(session, &key) ? behind->name(session, mechanism, key) : CKR_KEY_HANDLE_INVALID; \
  }
INIT(C_EncryptInit)
INIT(C_DecryptInit)
INIT(C_SignInit)
INIT(C_VerifyInit)

static CK_RV before_C_FindObjects(CK_SESSION session, CK_OBJECT *objects, CK_ULONG limit, CK_ULONG *count) {
  CK_RV rv = behind->C_FindObjects(session, objects, limit, count);
  for (CK_ULONG i = 0; rv == CKR_OK && i < *count; i++) objects[i] = shown(session, objects[i]);
  return rv;
}

static CK_RV before_C_GetAttributeValue(CK_SESSION session, CK_OBJECT object, CK_ATTRIBUTE *attributes, CK_ULONG count) {
  return own(session, &object) ? behind->C_GetAttributeValue(session, object, attributes, count) : CKR_OBJECT_HANDLE_INVALID;
}

static CK_RV before_C_SetAttributeValue(CK_SESSION session, CK_OBJECT object, CK_ATTRIBUTE *attributes, CK_ULONG count) {
  return own(session, &object) ? behind->C_SetAttributeValue(session, object, attributes, count) : CKR_OBJECT_HANDLE_INVALID;
}

static CK_RV before_C_DestroyObject(CK_SESSION session, CK_OBJECT object) {
  return own(session, &object) ? behind->C_DestroyObject(session, object) : CKR_OBJECT_HANDLE_INVALID;
}

static CK_RV before_C_CreateObject(CK_SESSION session, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT *object) {
  CK_RV rv = behind->C_CreateObject(session, attributes, count, object);
  if (rv == CKR_OK) *object = shown(session, *object);
  return rv;
}

static CK_RV before_C_CopyObject(CK_SESSION session, CK_OBJECT source, CK_ATTRIBUTE *attributes, CK_ULONG count,
                                 CK_OBJECT *object) {
  if (!own(session, &source)) return CKR_OBJECT_HANDLE_INVALID;
  CK_RV rv = behind->C_CopyObject(session, source, attributes, count, object);
  if (rv == CKR_OK) *object = shown(session, *object);
  return rv;
}

static CK_RV before_C_GenerateKey(CK_SESSION session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *attributes, CK_ULONG count,
                                  CK_OBJECT *object) {
  CK_RV rv = behind->C_GenerateKey(session, mechanism, attributes, count, object);
  if (rv == CKR_OK) *object = shown(session, *object);
  return rv;
}

static CK_RV before_C_GenerateKeyPair(CK_SESSION session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *of_public,
                                      CK_ULONG public_count, CK_ATTRIBUTE *of_private, CK_ULONG private_count,
                                      CK_OBJECT *public_key, CK_OBJECT *private_key) {
  CK_RV rv = behind->C_GenerateKeyPair(session, mechanism, of_public, public_count, of_private, private_count, public_key,
                                       private_key);
  if (rv == CKR_OK) *public_key = shown(session, *public_key);
  if (rv == CKR_OK) *private_key = shown(session, *private_key);
  return rv;
}

static CK_RV before_C_WrapKey(CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT wrapping_key, CK_OBJECT key,
                              CK_BYTE *wrapped, CK_ULONG *length) {
  if (!own(session, &wrapping_key) || !own(session, &key)) return CKR_KEY_HANDLE_INVALID;
  return behind->C_WrapKey(session, mechanism, wrapping_key, key, wrapped, length);
}

static CK_RV before_C_UnwrapKey(CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT wrapping_key, CK_BYTE *wrapped,
                                CK_ULONG length, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT *object) {
  if (!own(session, &wrapping_key)) return CKR_KEY_HANDLE_INVALID;
  CK_RV rv = behind->C_UnwrapKey(session, mechanism, wrapping_key, wrapped, length, attributes, count, object);
  if (rv == CKR_OK) *object = shown(session, *object);
  return rv;
}

CK_FUNCTION_LIST *quirks_before(CK_FUNCTION_LIST *of_target) {
  behind = of_target;
  before = *of_target;
#define BEFORE(name) before.name = before_##name
  BEFORE(C_EncryptInit), BEFORE(C_DecryptInit), BEFORE(C_SignInit), BEFORE(C_VerifyInit), BEFORE(C_FindObjects);
  BEFORE(C_GetAttributeValue), BEFORE(C_SetAttributeValue), BEFORE(C_DestroyObject), BEFORE(C_CreateObject);
  BEFORE(C_CopyObject), BEFORE(C_GenerateKey), BEFORE(C_GenerateKeyPair), BEFORE(C_WrapKey), BEFORE(C_UnwrapKey);
  return &before;
}
