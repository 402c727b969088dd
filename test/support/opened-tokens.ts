// Tokens that a test opens through the HSM layer in its own process, with token hosts that are ended after the test.

import { afterEach } from "vitest";

import { openToken, type OpenedToken } from "./token-hsm.js";

/** Returns `openToken`, whose token hosts now end after each test. */
export function useOpenedTokens(): typeof openToken {
  let opened: OpenedToken[] = [];
  afterEach(async () => {
    await Promise.all(opened.map(({ hsm }) => hsm.stop(200)));
    opened = [];
  });
  return (...args) => {
    const one = openToken(...args);
    opened.push(one);
    return one;
  };
}
