// Ends this process when the one that started it has ended, even by SIGKILL. The machines and the HSM end with it.

const runner = process.ppid;
const timer = setInterval(() => {
  if (process.ppid !== runner) process.exit(1);
}, 500);
timer.unref();
