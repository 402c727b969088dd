# Before a removal that is not an upgrade, as root. Refuses while an API server of this node is told to use the plugin: from its
# next restart on it could not read the Secrets.
anyway=/run/kms-pkcs11-remove-anyway

# The EncryptionConfigurations that arguments or settings name, read from standard input.
named_files() { sed -n 's/.*encryption-provider-config[=: ] *"\{0,1\}\([^ ",]*\).*/\1/p'; }

# Prints the files through which API servers use the plugin. A running API server sees its files from its own root folder.
files_in_use() {
  for process in /proc/[0-9]*; do
    [ "$process" != "/proc/$$" ] || continue
    for file in $({ tr '\0' '\n' <"$process/cmdline" | named_files; } 2>/dev/null); do
      ! grep -qs unix:///run/kms-pkcs11/ "$process/root$file" || echo "$file"
    done
  done
  for file in $(cat /etc/kubernetes/manifests/*.yaml /etc/systemd/system/*.service /etc/systemd/system/*.service.d/*.conf \
    /etc/rancher/*/config.yaml /etc/rancher/*/config.yaml.d/*.yaml 2>/dev/null | named_files); do
    ! grep -qs unix:///run/kms-pkcs11/ "$file" || echo "$file"
  done
}

if [ ! -e "$anyway" ]; then
  in_use=$(files_in_use | sort -u)
  if [ -n "$in_use" ]; then
    echo "kms-pkcs11: not removed, since kube-apiserver uses the plugin through $in_use" >&2
    echo "kms-pkcs11: first return to Secrets in clear: /opt/kms-pkcs11/deploy/removal.md" >&2
    echo "kms-pkcs11: to remove it nevertheless: touch $anyway, then again" >&2
    exit 1
  fi
fi
if [ -d /run/systemd/system ]; then
  systemctl disable --now kms-pkcs11.service
fi
