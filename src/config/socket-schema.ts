// The options of the socket that kube-apiserver connects to.
import { z } from "zod";
import { flag, optionalNameOrNumber, optionalText, presetText } from "./option.js";
import { checkGroup, parseSocketAddress, parseSocketMode } from "./socket-address.js";

export const socketSection = z.strictObject({
  path: optionalText({
    range: "a unix socket's address such as unix:///run/kms-pkcs11/kms.sock",
    read: parseSocketAddress,
    why: "Socket that kube-apiserver connects to, at most 107 bytes; `serve` requires it",
  }),
  mode: presetText({
    preset: "0600",
    range: '"0600", or "0660" with socket.group',
    read: parseSocketMode,
    why: "Permissions of the socket, octal and in quotes; access for other users is refused",
  }),
  group: optionalNameOrNumber({
    range: "a group's name or number",
    read: checkGroup,
    why: "Group of the socket, for a kube-apiserver that does not run as the plugin's user",
  }),
  allowAbstract: flag({
    preset: false,
    why: "Permits `unix:///@name`, a socket without any access control: every process in the network namespace can use it",
  }),
});
