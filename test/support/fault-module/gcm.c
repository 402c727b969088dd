/*
 * AES-GCM of tokens that generate the IV themselves: they write it into the caller's parameters, or put it after or
 * before the ciphertext. README.md describes the modes and names real tokens of each kind.
 */
#include "fault.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static bool is_gcm(const CK_MECHANISM *mechanism) {
  return mechanism != NULL && mechanism->type == control->gcm_mechanism;
}

static CK_GCM_PARAMS *gcm_parameters(const CK_MECHANISM *mechanism) {
  return mechanism->length == sizeof(CK_GCM_PARAMS) ? mechanism->parameter : NULL;
}

static CK_RV init_target(CK_SESSION session, CK_GCM_PARAMS *parameters, CK_OBJECT key, bool decrypt) {
  CK_BYTE zeros[16] = {0};
  CK_GCM_PARAMS used = *parameters;
  if (control->ignore_ivs) {
    used.iv = zeros;
    used.iv_length = 12;
    used.iv_bits = 96;
  }
  CK_MECHANISM mechanism = {CKM_AES_GCM, &used, sizeof used};
  return decrypt ? target->C_DecryptInit(session, &mechanism, key) : target->C_EncryptInit(session, &mechanism, key);
}

/* ---- encrypting ---- */

enum { USED_IVS = 4096, USED_IV_BYTES = 12 };

/* Whether the IV is not zero and no earlier encryption of this process had it. The oldest IVs are forgotten. */
static bool is_fresh(const CK_GCM_PARAMS *parameters) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static CK_BYTE used[USED_IVS][USED_IV_BYTES]; /* unused entries are zero, as an IV must not be */
  static size_t next;
  if (parameters->iv == NULL || parameters->iv_length != USED_IV_BYTES) return false;
  bool fresh = true;
  pthread_mutex_lock(&lock);
  for (size_t at = 0; at < USED_IVS; at++) fresh = fresh && memcmp(used[at], parameters->iv, USED_IV_BYTES) != 0;
  memcpy(used[next++ % USED_IVS], parameters->iv, USED_IV_BYTES);
  pthread_mutex_unlock(&lock);
  return fresh;
}

CK_RV emulated_C_EncryptInit(CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT key) {
  struct session *known = sessions_find(session);
  if (!is_gcm(mechanism) || known == NULL) return target->C_EncryptInit(session, mechanism, key);
  CK_GCM_PARAMS *given = gcm_parameters(mechanism);
  if (given == NULL) return CKR_MECHANISM_PARAM_INVALID;
  if (control->gcm_place == GCM_CALLER) {
    if (control->fresh_ivs != CKR_OK && !is_fresh(given)) return control->fresh_ivs;
    CK_RV rv = init_target(session, given, key, false);
    if (rv == CKR_OK) known->encrypt.place = GCM_CALLER;
    return rv;
  }
  bool written = control->gcm_place == GCM_WRITTEN || control->gcm_place == GCM_WRITTEN_LATE;
  if (written && (given->iv == NULL || given->iv_length < control->gcm_iv_length)) return CKR_MECHANISM_PARAM_INVALID;
  struct gcm_encrypt made = {.place = control->gcm_place, .parameters = *given, .caller_iv = given->iv};
  random_bytes(made.iv, control->gcm_iv_length);
  made.parameters.iv = made.iv;
  made.parameters.iv_length = control->gcm_iv_length;
  made.parameters.iv_bits = control->gcm_iv_length * 8;
  CK_RV rv = init_target(session, &made.parameters, key, false);
  if (rv != CKR_OK) return rv;
  known->encrypt = made;
  if (made.place == GCM_WRITTEN) {
    memcpy(given->iv, made.iv, control->gcm_iv_length);
    rules_alter(F_C_EncryptInit, given->iv, control->gcm_iv_length);
  }
  return rv;
}

/* The target's output with the IV before or after it. */
static CK_RV encrypt_with_iv(CK_SESSION session, struct gcm_encrypt *made, CK_BYTE *data, CK_ULONG length, CK_BYTE *out,
                             CK_ULONG *out_length) {
  CK_ULONG iv_length = made->parameters.iv_length;
  CK_ULONG inner_length = length + made->parameters.tag_bits / 8, needed = inner_length + iv_length;
  if (out == NULL || *out_length < needed) {
    *out_length = needed;
    return out == NULL ? CKR_OK : CKR_BUFFER_TOO_SMALL;
  }
  bool prepended = made->place == GCM_PREPENDED;
  CK_BYTE *inner = malloc(inner_length + 1);
  if (inner == NULL) return CKR_HOST_MEMORY;
  CK_RV rv = target->C_Encrypt(session, data, length, inner, &inner_length);
  if (rv == CKR_OK) {
    memcpy(out + (prepended ? iv_length : 0), inner, inner_length);
    memcpy(out + (prepended ? 0 : inner_length), made->iv, iv_length);
    *out_length = inner_length + iv_length;
  }
  free(inner);
  made->place = GCM_CALLER;
  return rv;
}

static CK_RV encrypt(CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length) {
  struct session *known = sessions_find(session);
  enum gcm_place place = known == NULL ? GCM_CALLER : known->encrypt.place;
  if (place == GCM_APPENDED || place == GCM_PREPENDED)
    return encrypt_with_iv(session, &known->encrypt, data, length, out, out_length);
  CK_RV rv = target->C_Encrypt(session, data, length, out, out_length);
  if (place == GCM_WRITTEN_LATE && rv == CKR_OK && out != NULL) {
    memcpy(known->encrypt.caller_iv, known->encrypt.iv, known->encrypt.parameters.iv_length);
    known->encrypt.place = GCM_CALLER;
  }
  return rv;
}

CK_RV emulated_C_Encrypt(CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length) {
  CK_RV rv = encrypt(session, data, length, out, out_length);
  if (rv == CKR_OK) rules_alter(F_C_Encrypt, out, *out_length);
  return rv;
}

/* ---- decrypting ciphertexts in the token's own format ---- */

CK_RV emulated_C_DecryptInit(CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT key) {
  struct session *known = sessions_find(session);
  if (known != NULL && known->decrypt.pending) return CKR_OPERATION_ACTIVE;
  if (!is_gcm(mechanism) || known == NULL) return target->C_DecryptInit(session, mechanism, key);
  CK_GCM_PARAMS *given = gcm_parameters(mechanism);
  if (given == NULL) return CKR_MECHANISM_PARAM_INVALID;
  if (!control->gcm_own) return init_target(session, given, key, true);
  struct gcm_decrypt *pending = &known->decrypt;
  CK_BYTE *aad = malloc(given->aad_length + 1);
  if (aad == NULL) return CKR_HOST_MEMORY;
  if (given->aad_length > 0) memcpy(aad, given->aad, given->aad_length);
  free(pending->parameters.aad);
  *pending = (struct gcm_decrypt){.pending = true, .key = key, .parameters = *given, .iv_length = control->gcm_iv_length,
                                  .prepended = control->gcm_place == GCM_PREPENDED};
  pending->parameters.aad = aad;
  return CKR_OK;
}

static CK_RV decrypt(CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length) {
  struct session *known = sessions_find(session);
  if (known == NULL || !known->decrypt.pending) return target->C_Decrypt(session, data, length, out, out_length);
  struct gcm_decrypt *pending = &known->decrypt;
  CK_ULONG around = pending->iv_length + pending->parameters.tag_bits / 8;
  if (length >= around && (out == NULL || *out_length < length - around)) {
    *out_length = length - around;
    return out == NULL ? CKR_OK : CKR_BUFFER_TOO_SMALL;
  }
  pending->pending = false;
  if (length < around) return CKR_ENCRYPTED_DATA_INVALID;
  CK_BYTE *iv = pending->prepended ? data : data + length - pending->iv_length;
  CK_BYTE *inner = pending->prepended ? data + pending->iv_length : data;
  CK_ULONG inner_length = length - pending->iv_length, plain_length = length;
  pending->parameters.iv = iv;
  pending->parameters.iv_length = pending->iv_length;
  pending->parameters.iv_bits = pending->iv_length * 8;
  CK_BYTE *plain = malloc(length + 1);
  if (plain == NULL) return CKR_HOST_MEMORY;
  CK_RV rv = init_target(session, &pending->parameters, pending->key, true);
  if (rv == CKR_OK) rv = target->C_Decrypt(session, inner, inner_length, plain, &plain_length);
  if (rv == CKR_OK) {
    memcpy(out, plain, plain_length);
    *out_length = plain_length;
  }
  free(plain);
  return rv;
}

CK_RV emulated_C_Decrypt(CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length) {
  CK_RV rv = decrypt(session, data, length, out, out_length);
  if (rv == CKR_OK) rules_alter(F_C_Decrypt, out, *out_length);
  return rv;
}

/* ---- multi-part calls: refused if the IV is part of the ciphertext ---- */

static bool in_one_piece_only(CK_SESSION session) {
  struct session *known = sessions_find(session);
  return known != NULL && (known->decrypt.pending || known->encrypt.place == GCM_APPENDED ||
                           known->encrypt.place == GCM_PREPENDED);
}

CK_RV emulated_C_EncryptUpdate(CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length) {
  if (in_one_piece_only(session)) return CKR_FUNCTION_NOT_SUPPORTED;
  return target->C_EncryptUpdate(session, data, length, out, out_length);
}

CK_RV emulated_C_EncryptFinal(CK_SESSION session, CK_BYTE *data, CK_ULONG *out_length) {
  if (in_one_piece_only(session)) return CKR_FUNCTION_NOT_SUPPORTED;
  return target->C_EncryptFinal(session, data, out_length);
}

CK_RV emulated_C_DecryptUpdate(CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length) {
  if (in_one_piece_only(session)) return CKR_FUNCTION_NOT_SUPPORTED;
  return target->C_DecryptUpdate(session, data, length, out, out_length);
}

CK_RV emulated_C_DecryptFinal(CK_SESSION session, CK_BYTE *data, CK_ULONG *out_length) {
  if (in_one_piece_only(session)) return CKR_FUNCTION_NOT_SUPPORTED;
  return target->C_DecryptFinal(session, data, out_length);
}
