// The queue of requests for lanes: without clusters in the order of arrival, otherwise in turn, with lanes left free.

import { expect, it } from "vitest";

import { FairQueue } from "../../../src/hsm/hosts/fair-queue.js";
import { Job } from "../../../src/hsm/hosts/job.js";
import { Op } from "../../../src/hsm/wire-calls.js";
import { PATIENT_CALLER } from "../../../src/hsm/port.js";

const jobOf = (group: string, name: string): Job =>
  new Job(
    Op.encrypt,
    { keyId: name, mechanism: 1, aad: Buffer.alloc(0), data: Buffer.alloc(0) },
    PATIENT_CALLER,
    group,
  );

/** Sends what the queue gives, up to a number of jobs, and returns their names. */
function drained(queue: FairQueue, lanes: number, most = Infinity): string[] {
  const names: string[] = [];
  queue.drain(lanes, (job) =>
    names.length >= most
      ? undefined
      : () => {
          names.push(job.request.keyId);
          queue.sent(job);
        },
  );
  return names;
}

it("without clusters, requests are sent in the order of their arrival, and may fill all lanes", () => {
  const queue = new FairQueue();
  for (let at = 0; at < 50; at++) queue.add(jobOf("", String(at)));
  expect(drained(queue, 1)).toEqual(Array.from({ length: 50 }, (_, at) => String(at)));
});

it("clusters take turns, however many requests one of them sends", () => {
  const queue = new FairQueue();
  for (let at = 0; at < 10; at++) queue.add(jobOf("a", `a${at}`));
  queue.add(jobOf("b", "b0"));
  queue.add(jobOf("c", "c0"));
  expect(drained(queue, 16, 4)).toEqual(["a0", "b0", "c0", "a1"]);
  expect([queue.length, queue.waitingOf("a"), queue.waitingOf("b")]).toEqual([8, 8, 0]);
});

it("one cluster's requests leave lanes free, and the next is sent when one is answered", () => {
  const queue = new FairQueue();
  const jobs = Array.from({ length: 20 }, (_, at) => jobOf("a", `a${at}`));
  for (const job of jobs) queue.add(job);
  expect(drained(queue, 8)).toHaveLength(6);
  expect(drained(queue, 8)).toEqual([]);
  queue.add(jobOf("b", "b0"));
  expect(drained(queue, 8)).toEqual(["b0"]);
  if (jobs[0] !== undefined) queue.answered(jobs[0]);
  expect(drained(queue, 8)).toEqual(["a6"]);
});

it("a request that goes to another host is sent first, and one that cannot blocks no other", () => {
  const queue = new FairQueue();
  queue.add(jobOf("", "new"));
  queue.addAgain(jobOf("", "again"));
  queue.addAgain(jobOf("", "stuck"));
  const names: string[] = [];
  queue.drain(1, (job) =>
    job.request.keyId === "stuck" ? undefined : () => void names.push(job.request.keyId),
  );
  expect(names).toEqual(["again", "new"]);
  expect(queue.takeAll().map(({ request }) => request.keyId)).toEqual(["stuck"]);
});
