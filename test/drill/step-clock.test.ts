// What the steps of a drill report when they fail.
import { expect, it } from "vitest";
import { writePrivate } from "../../src/drill/private-folder.js";
import { StepClock } from "../../src/drill/step-clock.js";

it("a step of a drill that meets a full disk names the file and the reason", async () => {
  const clock = new StepClock(new AbortController().signal, () => undefined);
  const result = await clock.run("plugin", () => {
    writePrivate("/dev/full", "a configuration");
    return Promise.resolve({ detail: "written" });
  });
  expect([result, clock.error?.code]).toEqual([undefined, "CONFIG_INVALID"]);
  const { outcome, detail } = clock.results.find(({ step }) => step === "plugin") ?? {};
  expect([outcome, detail]).toEqual([
    "failed",
    expect.stringMatching(/\/dev\/full.*ENOSPC: no space is left on the device/),
  ]);
});

it("an interrupt is the error of a drill after a failed step, and no step begins after it", async () => {
  const controller = new AbortController();
  const begun: string[] = [];
  const clock = new StepClock(controller.signal, () => undefined);
  await clock.run("objects", () => Promise.resolve({ detail: "1 cannot be read", failed: true }));
  controller.abort();
  await clock.run("plugin", () => {
    begun.push("plugin");
    return Promise.resolve({ detail: "started" });
  });
  expect([clock.error?.code, begun]).toEqual(["CANCELLED", []]);
});
