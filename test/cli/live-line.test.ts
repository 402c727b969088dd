// The line that changes while a command works: what is drawn when, and what remains on the terminal.

import { PassThrough } from "node:stream";

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { LiveLine } from "../../src/cli/live-line.js";

class Screen extends PassThrough {
  columns = 40;

  /** What has been written since the last call, with the escape sequences for erasing as ⌫ and moving up as ↑. */
  drawn(): string {
    const text = ((this.read() as Buffer | null) ?? "").toString();
    return text.replaceAll("\u001b[1G\u001b[0J", "⌫").replaceAll("\u001b[1A", "↑1");
  }
}

let screen: Screen;
let line: LiveLine;
let ends: (() => void)[] = [];

beforeEach(() => {
  screen = new Screen();
  line = new LiveLine(screen);
});

afterEach(() => {
  for (const end of ends) end();
  ends = [];
  vi.restoreAllMocks();
});

const show = (text: string): (() => void) => {
  const end = line.show(() => text);
  ends.push(end);
  return end;
};

describe("the live line", () => {
  it("the live line shows the last text, then the one before it, then nothing", () => {
    show("waiting");
    const end = show("3 of 4");
    end();
    ends[0]?.();
    expect(screen.drawn()).toBe("waiting⌫3 of 4⌫waiting⌫");
  });

  it("the live line gives way to a text that is shown already", () => {
    const end = show("3 of 4");
    ends.push(line.showBelow(() => "waiting"));
    end();
    expect(screen.drawn()).toBe("3 of 4⌫3 of 4⌫waiting");
  });

  it("the live line is cut before the last column, also after the terminal has become narrower", () => {
    screen.columns = 10;
    show("0123456789abcdef");
    expect(screen.drawn()).toBe("012345678");
    screen.columns = 5;
    screen.emit("resize");
    // The terminal has broken the nine characters into two rows.
    expect(screen.drawn()).toBe("↑1⌫0123");
  });

  it("the live line is not drawn while a prompt has the terminal", async () => {
    show("waiting");
    await line.during(() => {
      screen.emit("resize");
      return Promise.resolve();
    });
    expect(screen.drawn()).toBe("waiting⌫");
  });

  it("the live line never hides the cursor and changes no mode of the terminal", () => {
    show("waiting")();
    expect(screen.drawn()).not.toContain("\u001b[?");
  });

  it("the live line leaves no listener on the process", () => {
    const count = (): number => process.listenerCount("SIGINT") + process.listenerCount("exit");
    const before = count();
    show("a")();
    expect(count()).toBe(before);
  });

  it.each(["before", "after"])(
    "a signal that is handled once, %s a line is drawn, does not end the process",
    (when) => {
      const kill = vi.spyOn(process, "kill").mockReturnValue(true);
      const handled = vi.fn();
      if (when === "before") process.once("SIGHUP", handled);
      const end = show("a");
      if (when === "after") process.once("SIGHUP", handled);
      process.emit("SIGHUP", "SIGHUP");
      expect([handled.mock.calls.length, kill.mock.calls]).toEqual([1, []]);
      process.emit("SIGHUP", "SIGHUP");
      expect(kill.mock.calls).toEqual([[process.pid, "SIGHUP"]]);
      end();
    },
  );
});
