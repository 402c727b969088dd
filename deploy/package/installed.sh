# After an installation or an upgrade, as root. $1 is "upgrade" after an upgrade.
# The user of the unit, and its folders: before the unit first runs, root's commands find there whom they act as.
systemd-sysusers kms-pkcs11.conf
install -d -m 0755 /etc/kms-pkcs11
install -d -m 0700 /etc/kms-pkcs11/credentials
for folder in /var/lib/kms-pkcs11 /var/log/kms-pkcs11; do
  [ -d "$folder" ] || install -d -m 0700 -o kms-pkcs11 -g kms-pkcs11 "$folder"
done
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # kube-apiserver continues with the seeds that it has while the plugin restarts, which takes about a second.
  [ "$1" != upgrade ] || systemctl try-restart kms-pkcs11.service
fi
