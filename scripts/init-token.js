// Makes a token, unless there is one with that label: init-token.js MODULE LABEL SO-PIN-FILE PIN-FILE
// softhsm2-util takes PINs on its command line, where every user of the machine can read them, or from a terminal.
import { readFileSync } from "node:fs";
import pkcs11js from "pkcs11js";

const [modulePath, label, soPinFile, pinFile] = process.argv.slice(2);
const module = new pkcs11js.PKCS11();
module.load(modulePath);
module.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK });

const tokens = module.C_GetSlotList(true).map((slot) => ({ slot, ...module.C_GetTokenInfo(slot) }));
if (!tokens.some((token) => token.label.trim() === label)) {
  const free = tokens.find((token) => (token.flags & pkcs11js.CKF_TOKEN_INITIALIZED) === 0);
  if (free === undefined) throw new Error(`${modulePath} has no free slot for a token`);
  const soPin = readFileSync(soPinFile, "utf8");
  module.C_InitToken(free.slot, soPin, label);
  const session = module.C_OpenSession(free.slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
  module.C_Login(session, pkcs11js.CKU_SO, soPin);
  module.C_InitPIN(session, readFileSync(pinFile, "utf8"));
  module.C_Logout(session);
  module.C_CloseSession(session);
}
module.C_Finalize();
