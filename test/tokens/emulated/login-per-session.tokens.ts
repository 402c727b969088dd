import { describeLifeCycle } from "../life-cycle.js";
import { emulated } from "./emulated-token.js";

describeLifeCycle("a token with a login for each session, whose library refuses a second C_Initialize", () =>
  emulated("login-per-session", "C_Initialize rv 0x6 failed"),
);
