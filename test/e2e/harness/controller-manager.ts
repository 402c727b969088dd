// A real kube-controller-manager with the controllers that a test names. It is an administrator of one API server, and
// does not listen on any port.

import { join } from "node:path";
import type { KubeApiserver } from "./kube-apiserver.js";
import { ManagedProcess } from "./process.js";
import { binaries, newFolder } from "./run.js";

export class ControllerManager {
  readonly process: ManagedProcess;

  private constructor(process: ManagedProcess) {
    this.process = process;
  }

  /** Starts it. Its controllers begin to work when they have read the API. */
  static async start(
    apiserver: KubeApiserver,
    controllers: readonly string[],
    featureGates: readonly string[],
  ): Promise<ControllerManager> {
    const kubeconfig = await apiserver.writeKubeconfig();
    const process = ManagedProcess.start({
      name: "kube-controller-manager",
      command: join(binaries(), "kube-controller-manager"),
      args: [
        `--kubeconfig=${kubeconfig}`,
        `--controllers=${controllers.join(",")}`,
        `--feature-gates=${featureGates.map((gate) => `${gate}=true`).join(",")}`,
        "--leader-elect=false",
        "--secure-port=0",
        "-v=4",
      ],
      logFile: join(await newFolder("kcm"), "kube-controller-manager.log"),
    });
    return new ControllerManager(process);
  }

  async stop(): Promise<void> {
    await this.process.stop();
  }
}
