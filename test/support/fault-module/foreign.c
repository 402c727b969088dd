/*
 * Searches, and simulated secret keys of other applications, which exist only in search results: as many as a shared
 * partition holds, at no cost to the test. Each has its own label. Searches by CKA_LABEL or CKA_ID do not return them.
 */
#include "fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_FOREIGN 0x70000000UL

bool foreign_is(CK_OBJECT object) {
  return object >= FIRST_FOREIGN && object - FIRST_FOREIGN < control->foreign_objects;
}

CK_RV emulated_C_FindObjectsInit(CK_SESSION session, CK_ATTRIBUTE *attributes, CK_ULONG count) {
  bool named = false;
  CK_ULONG class = CKO_SECRET_KEY;
  for (CK_ULONG i = 0; i < count; i++) {
    if (list_has(&control->no_attribute, attributes[i].type) || list_has(&control->not_searchable, attributes[i].type)) return CKR_ATTRIBUTE_TYPE_INVALID;
    if (attributes[i].type == CKA_CLASS && attributes[i].length == sizeof class)
      memcpy(&class, attributes[i].value, sizeof class);
    named |= attributes[i].type == CKA_LABEL || attributes[i].type == CKA_ID;
  }
  CK_ATTRIBUTE *kept = calloc(count + 1, sizeof *kept);
  if (kept == NULL) return CKR_HOST_MEMORY;
  CK_ULONG heeded = 0;
  for (CK_ULONG i = 0; i < count; i++)
    if (!list_has(&control->ignore_in_searches, attributes[i].type)) kept[heeded++] = attributes[i];
  CK_RV rv = target->C_FindObjectsInit(session, kept, heeded);
  free(kept);
  struct session *known = sessions_find(session);
  if (rv == CKR_OK && known != NULL) known->foreign_left = named || class != CKO_SECRET_KEY ? 0 : control->foreign_objects;
  if (known != NULL) known->last_found = 0, known->found_again = false;
  return rv;
}

/* Under found-twice, the token returns each batch again. */
static CK_RV find_own(struct session *known, CK_SESSION session, CK_OBJECT *objects, CK_ULONG limit, CK_ULONG *count) {
  if (control->found_limit > 0 && limit > control->found_limit) limit = control->found_limit;
  if (!control->found_twice || known == NULL) {
    CK_RV rv;
    do {
      rv = target->C_FindObjects(session, objects, limit, count);
      if (rv != CKR_OK || *count == 0) return rv;
    } while ((*count = quirks_findable(objects, *count)) == 0);
    return rv;
  }
  if (known->last_found > 0 && !known->found_again) {
    memcpy(objects, known->last, known->last_found * sizeof *objects);
    *count = known->last_found;
    known->found_again = true;
    return CKR_OK;
  }
  CK_RV rv = target->C_FindObjects(session, objects, limit > LAST_FOUND ? LAST_FOUND : limit, count);
  known->found_again = false;
  known->last_found = rv == CKR_OK ? *count : 0;
  memcpy(known->last, objects, known->last_found * sizeof *objects);
  return rv;
}

/* They come before the target's own objects, so that a search for one object has to pass them. */
CK_RV emulated_C_FindObjects(CK_SESSION session, CK_OBJECT *objects, CK_ULONG limit, CK_ULONG *count) {
  struct session *known = sessions_find(session);
  if (login_is_missing(session)) return *count = 0, CKR_OK;
  if (known == NULL || known->foreign_left == 0) return find_own(known, session, objects, limit, count);
  for (*count = 0; *count < limit && known->foreign_left > 0; known->foreign_left--)
    objects[(*count)++] = FIRST_FOREIGN + known->foreign_left - 1;
  return CKR_OK;
}

CK_RV emulated_C_FindObjectsFinal(CK_SESSION session) {
  struct session *known = sessions_find(session);
  if (known != NULL) known->foreign_left = 0;
  return target->C_FindObjectsFinal(session);
}

static CK_RV give(CK_ATTRIBUTE *attribute, const void *value, CK_ULONG length) {
  bool fits = attribute->value == NULL || attribute->length >= length;
  attribute->length = fits ? length : ~0UL;
  if (!fits) return CKR_BUFFER_TOO_SMALL;
  if (attribute->value != NULL) memcpy(attribute->value, value, length);
  return CKR_OK;
}

CK_RV foreign_read(CK_OBJECT object, CK_ATTRIBUTE *attributes, CK_ULONG count) {
  if (object == FIRST_FOREIGN && control->foreign_broken != CKR_OK) return control->foreign_broken;
  static const CK_ULONG class = CKO_SECRET_KEY, key_type = CKK_AES;
  static const CK_BBOOL yes = 1;
  char label[32];
  CK_ULONG length = (CK_ULONG)snprintf(label, sizeof label, "other-%lu", object - FIRST_FOREIGN);
  CK_RV rv = CKR_OK;
  for (CK_ULONG i = 0; i < count; i++) {
    CK_RV one;
    switch (attributes[i].type) {
    case CKA_CLASS: one = give(&attributes[i], &class, sizeof class); break;
    case CKA_KEY_TYPE: one = give(&attributes[i], &key_type, sizeof key_type); break;
    case CKA_TOKEN:
    case CKA_PRIVATE: one = give(&attributes[i], &yes, sizeof yes); break;
    case CKA_LABEL:
    case CKA_ID: one = give(&attributes[i], label, length); break;
    default: attributes[i].length = ~0UL; one = CKR_ATTRIBUTE_TYPE_INVALID;
    }
    if (one != CKR_OK) rv = one;
  }
  return rv;
}
