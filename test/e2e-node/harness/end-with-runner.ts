// Ends this process when the one that started it has ended, even by SIGKILL. By SIGKILL too, since vitest does not let a process
// exit by itself. The machines and the HSM end with it: setpriv has asked the kernel for that.

const runner = process.ppid;
const timer = setInterval(() => {
  if (process.ppid !== runner) process.kill(process.pid, "SIGKILL");
}, 500);
timer.unref();
