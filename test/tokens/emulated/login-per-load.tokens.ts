import { describeLifeCycle } from "../life-cycle.js";
import { emulated } from "./emulated-token.js";

describeLifeCycle("a token with a login for each load of its library", () => emulated("login-per-load"));
