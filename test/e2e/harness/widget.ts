// A custom resource for the tests to encrypt: namespaced `widgets.e2e.example.com`.

/* eslint-disable @typescript-eslint/no-unsafe-class-instance-assignment --
   the models of @kubernetes/client-node are classes, but its interface takes plain data */

import type { KubeClient } from "./kube-client.js";
import { until } from "./wait.js";

const group = "e2e.example.com";
const version = "v1";
const plural = "widgets";

/** The name of the resource in an encryption rule. */
export const WIDGETS = `${plural}.${group}`;

/** Returns the key under which a widget is stored in etcd. */
export function widgetKey(namespace: string, name: string): string {
  return `/registry/${group}/${plural}/${namespace}/${name}`;
}

/** Creates the CustomResourceDefinition and waits until it is served. */
export async function installWidgets(client: KubeClient): Promise<void> {
  const schema = {
    type: "object",
    properties: { spec: { type: "object", properties: { value: { type: "string" } } } },
  };
  await client.extensions.createCustomResourceDefinition({
    body: {
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name: WIDGETS },
      spec: {
        group,
        scope: "Namespaced",
        names: { plural, singular: "widget", kind: "Widget" },
        versions: [{ name: version, served: true, storage: true, schema: { openAPIV3Schema: schema } }],
      },
    },
  });
  await until("widgets are served", async () => {
    const { status } = await client.get(`/apis/${group}/${version}/namespaces/default/${plural}`);
    return status === 200;
  });
}

/** Creates a widget with a value. */
export async function createWidget(
  client: KubeClient,
  namespace: string,
  name: string,
  value: string,
): Promise<void> {
  const body = { apiVersion: `${group}/${version}`, kind: "Widget", metadata: { name }, spec: { value } };
  await client.custom.createNamespacedCustomObject({ group, version, plural, namespace, body });
}

/** Returns a widget's value. */
export async function readWidget(client: KubeClient, namespace: string, name: string): Promise<string> {
  const widget = (await client.custom.getNamespacedCustomObject({
    group,
    version,
    plural,
    namespace,
    name,
  })) as { spec: { value: string } };
  return widget.spec.value;
}
