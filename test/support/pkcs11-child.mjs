// The child of pkcs11-client.ts: holds one PKCS#11 module and runs the functions that it receives. Arguments: module
// path, string for C_Initialize or "", token label, PIN.

import p11 from "pkcs11js";

const [modulePath, parameters, label, pin] = process.argv.slice(2);
const module = new p11.PKCS11();

const state = {
  kept: [],
  load: () => module.load(modulePath),
  initialise: () =>
    // pkcs11js 2.1.7 cuts the last character of the string.
    module.C_Initialize(
      parameters
        ? { libraryParameters: `${parameters} `, flags: p11.CKF_OS_LOCKING_OK }
        : { flags: p11.CKF_OS_LOCKING_OK },
    ),
  findSlot: () => {
    state.slot = module
      .C_GetSlotList(true)
      .find((slot) => module.C_GetTokenInfo(slot).label.trimEnd() === label);
    if (state.slot === undefined) throw new Error(`no token ${label}`);
    return state.slot;
  },
  openSession: () =>
    (state.session = module.C_OpenSession(state.findSlot(), p11.CKF_SERIAL_SESSION | p11.CKF_RW_SESSION)),
  login: () => module.C_Login(state.session, p11.CKU_USER, pin),
  makeKey: (attributes = {}) => {
    const all = {
      [p11.CKA_CLASS]: p11.CKO_SECRET_KEY,
      [p11.CKA_KEY_TYPE]: p11.CKK_AES,
      [p11.CKA_VALUE_LEN]: 32,
      [p11.CKA_TOKEN]: true,
      [p11.CKA_PRIVATE]: true,
      [p11.CKA_SENSITIVE]: true,
      [p11.CKA_EXTRACTABLE]: false,
      [p11.CKA_ENCRYPT]: true,
      [p11.CKA_DECRYPT]: true,
      [p11.CKA_LABEL]: "kek",
      ...attributes,
    };
    const list = Object.entries(all).map(([type, value]) => ({ type: Number(type), value }));
    return module.C_GenerateKey(state.session, { mechanism: p11.CKM_AES_KEY_GEN }, list);
  },
  gcm: (iv, aad = "aad", mechanism = p11.CKM_AES_GCM) => ({
    mechanism,
    parameter: { type: p11.CK_PARAMS_GCM, iv, ivBits: iv.length * 8, aad: Buffer.from(aad), tagBits: 128 },
  }),
  encrypt: (key, iv, data, mechanism) => {
    module.C_EncryptInit(state.session, state.gcm(iv, "aad", mechanism), key);
    return module.C_Encrypt(state.session, data, Buffer.alloc(data.length + 64));
  },
  decrypt: (key, iv, data, mechanism) => {
    module.C_DecryptInit(state.session, state.gcm(iv, "aad", mechanism), key);
    return module.C_Decrypt(state.session, data, Buffer.alloc(data.length + 16));
  },
  count: (name) => {
    module.C_FindObjectsInit(state.session, [{ type: p11.CKA_LABEL, value: name }]);
    const found = module.C_FindObjects(state.session, 100).length;
    module.C_FindObjectsFinal(state.session);
    return found;
  },
};

process.on("message", ({ id, body, argument }) => {
  try {
    const result = new Function(`return (${body})`)()({ p11, module, state }, argument);
    process.send({ id, result });
  } catch (error) {
    const raw = /CKR_\w+:(\d+)/.exec(error.message); // C_CreateObject and two others throw without a code
    process.send({ id, message: error.message, code: error.code ?? (raw ? Number(raw[1]) : null) });
  }
});
process.on("disconnect", () => process.exit(0));
