# Before a removal that is not an upgrade, as root.
if [ -d /run/systemd/system ]; then
  systemctl disable --now kms-pkcs11.service
fi
