// Initialises a token, unless one with that label exists: init-token.js MODULE LABEL SO-PIN-FILE PIN-FILE
// It replaces softhsm2-util, which takes PINs from a terminal or on its command line, where every user can read them.
import { readFileSync } from "node:fs";
import pkcs11js from "pkcs11js";

const [modulePath, label, soPinFile, pinFile] = process.argv.slice(2);
const pkcs11 = new pkcs11js.PKCS11();
pkcs11.load(modulePath);
pkcs11.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK });

const tokens = pkcs11.C_GetSlotList(true).map((slot) => ({ slot, ...pkcs11.C_GetTokenInfo(slot) }));
const found = tokens.find((token) => token.label.trim() === label);
// A token without a PIN remains if an earlier run was interrupted.
if (found === undefined || (found.flags & pkcs11js.CKF_USER_PIN_INITIALIZED) === 0) {
  const token = found ?? tokens.find(({ flags }) => (flags & pkcs11js.CKF_TOKEN_INITIALIZED) === 0);
  if (token === undefined) throw new Error(`${modulePath} has no free slot for a token`);
  const soPin = readFileSync(soPinFile, "utf8");
  // The library always reads 32 characters, and pkcs11js 2.1.7 does not pad the string.
  if (found === undefined) pkcs11.C_InitToken(token.slot, soPin, label.padEnd(32));
  const session = pkcs11.C_OpenSession(token.slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
  pkcs11.C_Login(session, pkcs11js.CKU_SO, soPin);
  pkcs11.C_InitPIN(session, readFileSync(pinFile, "utf8"));
  pkcs11.C_Logout(session);
  pkcs11.C_CloseSession(session);
}
pkcs11.C_Finalize();
