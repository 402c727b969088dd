import { describeLifeCycle } from "../life-cycle.js";
import { emulated } from "./emulated-token.js";

describeLifeCycle("a token that offers RSA only", () => emulated("only-mechanisms 0x0,0x9,0xd,0x43"));
