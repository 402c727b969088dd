/*
 * The part of PKCS#11 2.40 that the fault module needs: types, the structures whose fields it reads (the others are
 * void pointers), and one row per function, in the order of CK_FUNCTION_LIST.
 *
 * A row is X(name, scope, kind, parameters, arguments). The scope says which state is checked before the call
 * (FREE: none; LIBRARY; SLOT; SESSION; MECHANISM: the session and its mechanism); the kind, whether the call is
 * FORWARDED to the target unchanged, or EMULATED by a function of this module that may change it.
 */
#ifndef CRYPTOKI_H
#define CRYPTOKI_H

typedef unsigned char CK_BYTE;
typedef unsigned char CK_BBOOL;
typedef unsigned long CK_ULONG;
typedef CK_ULONG CK_RV;
typedef CK_ULONG CK_SLOT_ID;
typedef CK_ULONG CK_SESSION;
typedef CK_ULONG CK_OBJECT;

typedef struct { CK_BYTE major, minor; } CK_VERSION;
typedef struct { CK_ULONG type; void *value; CK_ULONG length; } CK_ATTRIBUTE;
typedef struct { CK_ULONG type; void *parameter; CK_ULONG length; } CK_MECHANISM;

typedef struct {
  CK_BYTE description[64], manufacturer[32];
  CK_ULONG flags;
  CK_VERSION hardware, firmware;
} CK_SLOT_INFO;
typedef struct { CK_SLOT_ID slot; CK_ULONG state, flags, device_error; } CK_SESSION_INFO;

typedef struct {
  CK_BYTE label[32], manufacturer[32], model[16], serial[16];
  CK_ULONG flags, max_sessions, sessions, max_rw_sessions, rw_sessions, max_pin, min_pin;
  CK_ULONG total_public, free_public, total_private, free_private;
  CK_VERSION hardware, firmware;
  CK_BYTE time[16];
} CK_TOKEN_INFO;

typedef struct {
  CK_BYTE *iv;
  CK_ULONG iv_length, iv_bits;
  CK_BYTE *aad;
  CK_ULONG aad_length, tag_bits;
} CK_GCM_PARAMS;

#define CKR_OK 0x0UL
#define CKR_HOST_MEMORY 0x2UL
#define CKR_SLOT_ID_INVALID 0x3UL
#define CKR_GENERAL_ERROR 0x5UL
#define CKR_ATTRIBUTE_READ_ONLY 0x10UL
#define CKR_ATTRIBUTE_TYPE_INVALID 0x12UL
#define CKR_ATTRIBUTE_VALUE_INVALID 0x13UL
#define CKR_DEVICE_ERROR 0x30UL
#define CKR_DEVICE_REMOVED 0x32UL
#define CKR_ENCRYPTED_DATA_INVALID 0x40UL
#define CKR_FUNCTION_NOT_SUPPORTED 0x54UL
#define CKR_USER_ALREADY_LOGGED_IN 0x100UL
#define CKR_USER_NOT_LOGGED_IN 0x101UL
#define CKR_CRYPTOKI_ALREADY_INITIALIZED 0x191UL
#define CKS_RO_USER 1UL
#define CKS_RW_USER 3UL
#define CKR_KEY_FUNCTION_NOT_PERMITTED 0x68UL
#define CKR_MECHANISM_INVALID 0x70UL
#define CKR_MECHANISM_PARAM_INVALID 0x71UL
#define CKR_OPERATION_ACTIVE 0x90UL
#define CKR_PIN_INCORRECT 0xA0UL
#define CKR_PIN_LEN_RANGE 0xA2UL
#define CKR_PIN_LOCKED 0xA4UL
#define CKR_SESSION_COUNT 0xB1UL
#define CKR_SESSION_HANDLE_INVALID 0xB3UL
#define CKR_TOKEN_NOT_PRESENT 0xE0UL
#define CKR_BUFFER_TOO_SMALL 0x150UL

#define CKA_CLASS 0x0UL
#define CKA_TOKEN 0x1UL
#define CKA_PRIVATE 0x2UL
#define CKA_LABEL 0x3UL
#define CKA_KEY_TYPE 0x100UL
#define CKA_ID 0x102UL
#define CKA_VALUE_LEN 0x161UL
#define CKM_AES_GCM 0x1087UL
#define CKO_SECRET_KEY 4UL
#define CKK_AES 0x1FUL
#define CKU_USER 1UL
#define CKF_TOKEN_PRESENT 0x1UL
#define CKF_RW_SESSION 0x2UL
#define CKF_PROTECTED_AUTHENTICATION_PATH 0x100UL
#define CKF_USER_PIN_COUNT_LOW 0x10000UL
#define CKF_USER_PIN_FINAL_TRY 0x20000UL
#define CKF_USER_PIN_LOCKED 0x40000UL

typedef struct CK_FUNCTION_LIST CK_FUNCTION_LIST;

/* clang-format off */
#define CRYPTOKI_FUNCTIONS(X) \
  X(C_Initialize, FREE, EMULATED, (void *arguments), (arguments)) \
  X(C_Finalize, FREE, EMULATED, (void *reserved), (reserved)) \
  X(C_GetInfo, LIBRARY, FORWARDED, (void *info), (info)) \
  X(C_GetFunctionList, FREE, OWN, (CK_FUNCTION_LIST **list), (list)) \
  X(C_GetSlotList, FREE, EMULATED, (CK_BBOOL present, CK_SLOT_ID *slots, CK_ULONG *count), (present, slots, count)) \
  X(C_GetSlotInfo, LIBRARY, EMULATED, (CK_SLOT_ID slot, CK_SLOT_INFO *info), (slot, info)) \
  X(C_GetTokenInfo, SLOT, EMULATED, (CK_SLOT_ID slot, CK_TOKEN_INFO *info), (slot, info)) \
  X(C_GetMechanismList, SLOT, EMULATED, (CK_SLOT_ID slot, CK_ULONG *mechanisms, CK_ULONG *count), (slot, mechanisms, count)) \
  X(C_GetMechanismInfo, SLOT, EMULATED, (CK_SLOT_ID slot, CK_ULONG type, void *info), (slot, type, info)) \
  X(C_InitToken, SLOT, FORWARDED, (CK_SLOT_ID slot, CK_BYTE *pin, CK_ULONG length, CK_BYTE *label), (slot, pin, length, label)) \
  X(C_InitPIN, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *pin, CK_ULONG length), (session, pin, length)) \
  X(C_SetPIN, SESSION, EMULATED, (CK_SESSION session, CK_BYTE *old, CK_ULONG old_length, CK_BYTE *new_pin, CK_ULONG new_length), (session, old, old_length, new_pin, new_length)) \
  X(C_OpenSession, SLOT, EMULATED, (CK_SLOT_ID slot, CK_ULONG flags, void *application, void *notify, CK_SESSION *session), (slot, flags, application, notify, session)) \
  X(C_CloseSession, SESSION, EMULATED, (CK_SESSION session), (session)) \
  X(C_CloseAllSessions, SLOT, EMULATED, (CK_SLOT_ID slot), (slot)) \
  X(C_GetSessionInfo, SESSION, EMULATED, (CK_SESSION session, CK_SESSION_INFO *info), (session, info)) \
  X(C_GetOperationState, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *state, CK_ULONG *length), (session, state, length)) \
  X(C_SetOperationState, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *state, CK_ULONG length, CK_OBJECT encryption_key, CK_OBJECT authentication_key), (session, state, length, encryption_key, authentication_key)) \
  X(C_Login, SESSION, EMULATED, (CK_SESSION session, CK_ULONG user, CK_BYTE *pin, CK_ULONG length), (session, user, pin, length)) \
  X(C_Logout, SESSION, EMULATED, (CK_SESSION session), (session)) \
  X(C_CreateObject, SESSION, EMULATED, (CK_SESSION session, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT *object), (session, attributes, count, object)) \
  X(C_CopyObject, SESSION, EMULATED, (CK_SESSION session, CK_OBJECT source, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT *object), (session, source, attributes, count, object)) \
  X(C_DestroyObject, SESSION, EMULATED, (CK_SESSION session, CK_OBJECT source), (session, source)) \
  X(C_GetObjectSize, SESSION, FORWARDED, (CK_SESSION session, CK_OBJECT source, CK_ULONG *size), (session, source, size)) \
  X(C_GetAttributeValue, SESSION, EMULATED, (CK_SESSION session, CK_OBJECT source, CK_ATTRIBUTE *attributes, CK_ULONG count), (session, source, attributes, count)) \
  X(C_SetAttributeValue, SESSION, EMULATED, (CK_SESSION session, CK_OBJECT source, CK_ATTRIBUTE *attributes, CK_ULONG count), (session, source, attributes, count)) \
  X(C_FindObjectsInit, SESSION, EMULATED, (CK_SESSION session, CK_ATTRIBUTE *attributes, CK_ULONG count), (session, attributes, count)) \
  X(C_FindObjects, SESSION, EMULATED, (CK_SESSION session, CK_OBJECT *object, CK_ULONG limit, CK_ULONG *count), (session, object, limit, count)) \
  X(C_FindObjectsFinal, SESSION, EMULATED, (CK_SESSION session), (session)) \
  X(C_EncryptInit, MECHANISM, EMULATED, (CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT key), (session, mechanism, key)) \
  X(C_Encrypt, SESSION, EMULATED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length), (session, data, length, out, out_length)) \
  X(C_EncryptUpdate, SESSION, EMULATED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length), (session, data, length, out, out_length)) \
  X(C_EncryptFinal, SESSION, EMULATED, (CK_SESSION session, CK_BYTE *data, CK_ULONG *out_length), (session, data, out_length)) \
  X(C_DecryptInit, MECHANISM, EMULATED, (CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT key), (session, mechanism, key)) \
  X(C_Decrypt, SESSION, EMULATED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length), (session, data, length, out, out_length)) \
  X(C_DecryptUpdate, SESSION, EMULATED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length), (session, data, length, out, out_length)) \
  X(C_DecryptFinal, SESSION, EMULATED, (CK_SESSION session, CK_BYTE *data, CK_ULONG *out_length), (session, data, out_length)) \
  X(C_DigestInit, MECHANISM, FORWARDED, (CK_SESSION session, CK_MECHANISM *mechanism), (session, mechanism)) \
  X(C_Digest, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length), (session, data, length, out, out_length)) \
  X(C_DigestUpdate, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length), (session, data, length)) \
  X(C_DigestKey, SESSION, FORWARDED, (CK_SESSION session, CK_OBJECT key), (session, key)) \
  X(C_DigestFinal, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *data, CK_ULONG *out_length), (session, data, out_length)) \
  X(C_SignInit, MECHANISM, FORWARDED, (CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT key), (session, mechanism, key)) \
  X(C_Sign, SESSION, EMULATED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length), (session, data, length, out, out_length)) \
  X(C_SignUpdate, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length), (session, data, length)) \
  X(C_SignFinal, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *data, CK_ULONG *out_length), (session, data, out_length)) \
  X(C_SignRecoverInit, MECHANISM, FORWARDED, (CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT key), (session, mechanism, key)) \
  X(C_SignRecover, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length), (session, data, length, out, out_length)) \
  X(C_VerifyInit, MECHANISM, FORWARDED, (CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT key), (session, mechanism, key)) \
  X(C_Verify, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG out_length), (session, data, length, out, out_length)) \
  X(C_VerifyUpdate, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length), (session, data, length)) \
  X(C_VerifyFinal, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length), (session, data, length)) \
  X(C_VerifyRecoverInit, MECHANISM, FORWARDED, (CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT key), (session, mechanism, key)) \
  X(C_VerifyRecover, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length), (session, data, length, out, out_length)) \
  X(C_DigestEncryptUpdate, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length), (session, data, length, out, out_length)) \
  X(C_DecryptDigestUpdate, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length), (session, data, length, out, out_length)) \
  X(C_SignEncryptUpdate, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length), (session, data, length, out, out_length)) \
  X(C_DecryptVerifyUpdate, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length), (session, data, length, out, out_length)) \
  X(C_GenerateKey, MECHANISM, EMULATED, (CK_SESSION session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT *object), (session, mechanism, attributes, count, object)) \
  X(C_GenerateKeyPair, MECHANISM, EMULATED, (CK_SESSION session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *public_attributes, CK_ULONG public_count, CK_ATTRIBUTE *private_attributes, CK_ULONG private_count, CK_OBJECT *public_key, CK_OBJECT *private_key), (session, mechanism, public_attributes, public_count, private_attributes, private_count, public_key, private_key)) \
  X(C_WrapKey, MECHANISM, EMULATED, (CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT wrapping_key, CK_OBJECT key, CK_BYTE *wrapped, CK_ULONG *length), (session, mechanism, wrapping_key, key, wrapped, length)) \
  X(C_UnwrapKey, MECHANISM, EMULATED, (CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT wrapping_key, CK_BYTE *wrapped, CK_ULONG length, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT *object), (session, mechanism, wrapping_key, wrapped, length, attributes, count, object)) \
  X(C_DeriveKey, MECHANISM, EMULATED, (CK_SESSION session, CK_MECHANISM *mechanism, CK_OBJECT base_key, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT *object), (session, mechanism, base_key, attributes, count, object)) \
  X(C_SeedRandom, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *seed, CK_ULONG length), (session, seed, length)) \
  X(C_GenerateRandom, SESSION, FORWARDED, (CK_SESSION session, CK_BYTE *out, CK_ULONG length), (session, out, length)) \
  X(C_GetFunctionStatus, SESSION, FORWARDED, (CK_SESSION session), (session)) \
  X(C_CancelFunction, SESSION, FORWARDED, (CK_SESSION session), (session)) \
  X(C_WaitForSlotEvent, LIBRARY, FORWARDED, (CK_ULONG flags, CK_SLOT_ID *slot, void *reserved), (flags, slot, reserved))

#define CRYPTOKI_MEMBER(name, scope, kind, parameters, arguments) CK_RV (*name) parameters;
struct CK_FUNCTION_LIST {
  CK_VERSION version;
  CRYPTOKI_FUNCTIONS(CRYPTOKI_MEMBER)
};

#endif
