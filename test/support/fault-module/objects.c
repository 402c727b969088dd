/*
 * Attributes: types that the token does not know, refuses in templates, cannot read or reports wrongly; limits on
 * CKA_ID and CKA_LABEL; ids and lengths that the token chooses; and attributes that cannot be changed.
 */
#include "fault.h"

#include <stdlib.h>
#include <string.h>

static bool is_refused(const struct attribute_rule *rule, const CK_ATTRIBUTE *attribute) {
  if (rule == NULL || rule->value == ANY_VALUE) return rule != NULL;
  return attribute->length > 0 && *(const CK_BYTE *)attribute->value == rule->value;
}

static CK_RV check_template(const CK_ATTRIBUTE *attributes, CK_ULONG count) {
  for (CK_ULONG i = 0; i < count; i++) {
    if (list_has(&control->no_attribute, attributes[i].type)) return CKR_ATTRIBUTE_TYPE_INVALID;
    const struct attribute_rule *refused = attribute_rule(&control->refuse_attribute, attributes[i].type);
    if (is_refused(refused, &attributes[i])) return refused->rv;
    if (attributes[i].type == CKA_ID && attributes[i].length > control->id_limit) return CKR_ATTRIBUTE_VALUE_INVALID;
    if (attributes[i].type == CKA_LABEL && attributes[i].length > control->label_limit)
      return CKR_ATTRIBUTE_VALUE_INVALID;
  }
  return CKR_OK;
}

/* The template of a new object, with a CKA_ID chosen by the token if its length is limited and the caller gave none. */
struct completed {
  CK_ATTRIBUTE *attributes;
  CK_ULONG count;
  CK_BYTE id[64];
};

static CK_RV complete(struct completed *made, const CK_ATTRIBUTE *attributes, CK_ULONG count) {
  CK_RV rv = check_template(attributes, count);
  if (rv != CKR_OK) return rv;
  made->attributes = calloc(count + 2, sizeof *made->attributes);
  if (made->attributes == NULL) return CKR_HOST_MEMORY;
  made->count = count;
  if (count > 0) memcpy(made->attributes, attributes, count * sizeof *attributes);
  made->count = count = quirks_template(made->attributes, count);
  attributes = made->attributes;
  bool chosen = control->id_limit != NO_LIMIT && control->id_limit <= sizeof made->id;
  for (CK_ULONG i = 0; i < count; i++)
    if (attributes[i].type == CKA_ID && attributes[i].length > 0) chosen = false;
  if (!chosen) return CKR_OK;
  random_bytes(made->id, control->id_limit);
  CK_ULONG place = 0;
  while (place < count && attributes[place].type != CKA_ID) place++;
  made->attributes[place] = (CK_ATTRIBUTE){CKA_ID, made->id, control->id_limit};
  if (place == count) made->count++;
  return CKR_OK;
}

#define WITH_TEMPLATE(call)                          \
  struct completed made = {0};                       \
  CK_RV rv = role_check();                           \
  if (rv == CKR_OK) rv = complete(&made, attributes, count); \
  if (rv == CKR_OK) rv = call;                       \
  if (rv == CKR_OK) store_write_back();              \
  if (rv == CKR_OK) quirks_made(*object);            \
  free(made.attributes);                             \
  return rv

CK_RV emulated_C_CreateObject(CK_SESSION session, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT *object) {
  WITH_TEMPLATE(target->C_CreateObject(session, made.attributes, made.count, object));
}

/* A token that refuses CKA_VALUE_LEN makes keys of its own length. */
static const CK_ATTRIBUTE *own_length(void) {
  static CK_ULONG bytes = 32;
  static const CK_ATTRIBUTE length = {CKA_VALUE_LEN, &bytes, sizeof bytes};
  return attribute_rule(&control->refuse_attribute, CKA_VALUE_LEN) == NULL ? NULL : &length;
}

CK_RV emulated_C_GenerateKey(CK_SESSION session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *attributes, CK_ULONG count,
                             CK_OBJECT *object) {
  const CK_ATTRIBUTE *length = own_length();
  WITH_TEMPLATE((length == NULL ? (void)0 : (void)(made.attributes[made.count++] = *length),
                 target->C_GenerateKey(session, mechanism, made.attributes, made.count, object)));
}

CK_RV emulated_C_UnwrapKey(CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT wrapping_key, CK_BYTE *wrapped,
                           CK_ULONG length, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT *object) {
  WITH_TEMPLATE(target->C_UnwrapKey(session, mechanism, wrapping_key, wrapped, length, made.attributes, made.count, object));
}

CK_RV emulated_C_DeriveKey(CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT base_key, CK_ATTRIBUTE *attributes,
                           CK_ULONG count, CK_OBJECT *object) {
  WITH_TEMPLATE(target->C_DeriveKey(session, mechanism, base_key, made.attributes, made.count, object));
}

CK_RV emulated_C_DestroyObject(CK_SESSION session, CK_OBJECT source) {
  CK_RV rv = role_check();
  if (rv == CKR_OK) rv = target->C_DestroyObject(session, source);
  if (rv == CKR_OK) store_write_back();
  return rv;
}

CK_RV emulated_C_CopyObject(CK_SESSION session, CK_OBJECT source, CK_ATTRIBUTE *attributes, CK_ULONG count,
                            CK_OBJECT *object) {
  CK_RV rv = role_check();
  if (rv == CKR_OK) rv = check_template(attributes, count);
  if (rv == CKR_OK) rv = target->C_CopyObject(session, source, attributes, count, object);
  if (rv == CKR_OK) store_write_back();
  return rv;
}

CK_RV emulated_C_GenerateKeyPair(CK_SESSION session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *public_attributes,
                                 CK_ULONG public_count, CK_ATTRIBUTE *private_attributes, CK_ULONG private_count,
                                 CK_OBJECT *public_key, CK_OBJECT *private_key) {
  struct completed of_public = {0}, of_private = {0};
  CK_RV rv = role_check();
  if (rv == CKR_OK) rv = complete(&of_public, public_attributes, public_count);
  if (rv == CKR_OK) rv = complete(&of_private, private_attributes, private_count);
  memcpy(of_private.id, of_public.id, sizeof of_public.id);
  if (rv == CKR_OK)
    rv = target->C_GenerateKeyPair(session, mechanism, of_public.attributes, of_public.count, of_private.attributes,
                                   of_private.count, public_key, private_key);
  if (rv == CKR_OK) store_write_back();
  free(of_public.attributes);
  free(of_private.attributes);
  return rv;
}

CK_RV emulated_C_SetAttributeValue(CK_SESSION session, CK_OBJECT source, CK_ATTRIBUTE *attributes, CK_ULONG count) {
  if (control->read_only_attributes) return CKR_ATTRIBUTE_READ_ONLY;
  CK_RV rv = role_check();
  if (rv == CKR_OK) rv = check_template(attributes, count);
  return rv != CKR_OK ? rv : target->C_SetAttributeValue(session, source, attributes, count);
}

static CK_RV read_attributes(CK_SESSION session, CK_OBJECT source, CK_ATTRIBUTE *attributes, CK_ULONG count);

/* Under exact-reads, a buffer that is larger than its value is refused, or keeps its length. */
CK_RV emulated_C_GetAttributeValue(CK_SESSION session, CK_OBJECT source, CK_ATTRIBUTE *attributes, CK_ULONG count) {
  CK_ULONG *room = calloc(count + 1, sizeof *room);
  if (room == NULL) return CKR_HOST_MEMORY;
  for (CK_ULONG i = 0; i < count; i++) room[i] = attributes[i].value == NULL ? 0 : attributes[i].length;
  CK_RV rv = read_attributes(session, source, attributes, count);
  for (CK_ULONG i = 0; control->exact_reads && rv == CKR_OK && i < count; i++)
    if (room[i] > attributes[i].length) {
      rv = control->exact_reads_rv;
      attributes[i].length = room[i];
    }
  quirks_read(attributes, count, room, &rv);
  free(room);
  return rv;
}

/* As in the standard: an unknown type gets the length -1, and the other attributes are returned. */
static CK_RV read_attributes(CK_SESSION session, CK_OBJECT source, CK_ATTRIBUTE *attributes, CK_ULONG count) {
  if (foreign_is(source)) return foreign_read(source, attributes, count);
  for (CK_ULONG i = 0; i < count; i++) {
    const struct attribute_rule *unreadable = attribute_rule(&control->unreadable_attribute, attributes[i].type);
    if (unreadable != NULL) return unreadable->rv;
  }
  CK_ATTRIBUTE *known = calloc(count + 1, sizeof *known);
  if (known == NULL) return CKR_HOST_MEMORY;
  CK_ULONG asked = 0;
  for (CK_ULONG i = 0; i < count; i++)
    if (!list_has(&control->no_attribute, attributes[i].type)) known[asked++] = attributes[i];
  CK_RV rv = asked == 0 && count > 0 ? CKR_OK : target->C_GetAttributeValue(session, source, known, asked);
  CK_ULONG next = 0;
  for (CK_ULONG i = 0; i < count; i++)
    attributes[i].length =
        list_has(&control->no_attribute, attributes[i].type) ? ~0UL : known[next++].length;
  free(known);
  for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++) {
    const struct attribute_rule *report = attribute_rule(&control->report_attribute, attributes[i].type);
    if (report != NULL && attributes[i].value != NULL && attributes[i].length == 1)
      *(CK_BYTE *)attributes[i].value = (CK_BYTE)report->value;
  }
  for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++)
    if (attributes[i].value != NULL && attributes[i].length != ~0UL)
      rules_alter(F_C_GetAttributeValue, attributes[i].value, attributes[i].length);
  return rv == CKR_OK && asked < count ? CKR_ATTRIBUTE_TYPE_INVALID : rv;
}

CK_RV emulated_C_WrapKey(CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT wrapping_key, CK_OBJECT key,
                         CK_BYTE *wrapped, CK_ULONG *length) {
  CK_RV rv = target->C_WrapKey(session, mechanism, wrapping_key, key, wrapped, length);
  if (rv == CKR_OK) rules_alter(F_C_WrapKey, wrapped, *length);
  return rv;
}

CK_RV emulated_C_Sign(CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length) {
  CK_RV rv = target->C_Sign(session, data, length, out, out_length);
  if (rv == CKR_OK) rules_alter(F_C_Sign, out, *out_length);
  return rv;
}
