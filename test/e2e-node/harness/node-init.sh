#!/bin/bash
# Process 1 of a node: node-init.sh FOLDER PROGRAMS HARNESS CGROUP NAME ADDRESS HSM. It runs in mount, network, process, host
# name and IPC namespaces of its own, and ends only by SIGKILL, which is what pulling the plug is to a machine. The node sees
# this machine's /usr, and its /etc, /var, /opt, /root and /usr/local with changes of its own, which FOLDER keeps from one boot
# to the next. HSM is the folder that it sees as /opt/hsm.
set -e
folder=$1 programs=$2 harness=$3 cgroup=$4 name=$5 address=$6 hsm=$7

mount --make-rprivate /
for path in etc var opt root usr/local; do
  disk=$folder/${path##*/}
  mkdir -p "$disk.upper" "$disk.work"
  mount -t overlay overlay -o "lowerdir=/$path,upperdir=$disk.upper,workdir=$disk.work" "/$path"
done
mount -t tmpfs -o mode=0755 tmpfs /run

# Folders that may not lie on an overlay.
for service in containerd kubelet etcd; do
  mkdir -p "$folder/$service" "/var/lib/$service"
  mount --bind "$folder/$service" "/var/lib/$service"
done
mkdir -p /opt/hsm /opt/cni/bin
mount --bind "$hsm" /opt/hsm

# kubelet sets these for the whole machine. It finds them set, in files of its own.
mkdir -p /run/sys
while read -r setting value; do
  echo "$value" >"/run/sys/${setting//\//_}"
  mount --bind "/run/sys/${setting//\//_}" "/proc/sys/$setting"
done <<END
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END
mount --make-rshared /

hostname "$name"
ip link set lo up
ip link add node0 type veth peer name node1
ip link set node1 up
ip address add "$address/24" dev node0
ip link set node0 up
ip route add default dev node0
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mkdir -p "/sys/fs/cgroup/$cgroup"
else
  for hierarchy in /sys/fs/cgroup/*/; do mkdir -p "$hierarchy$cgroup"; done
fi

# From here on: what systemd does at a boot.
export PATH=$programs:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
[ ! -e /etc/tmpfiles.d/kms-pkcs11.conf ] || systemd-tmpfiles --create kms-pkcs11.conf
keep() { while :; do "$@" || true; sleep 1; done; }
keep containerd --config "$harness/containerd.toml" >>"$folder/containerd.log" 2>&1 </dev/null &
kubelet() {
  [ -e /var/lib/kubelet/config.yaml ] || return 0
  local cluster=()
  # kubeadm writes one of them before kubelet's configuration. Without both, kubelet only runs static pods.
  if [ -e /etc/kubernetes/kubelet.conf ] || [ -e /etc/kubernetes/bootstrap-kubelet.conf ]; then
    cluster=(--kubeconfig=/etc/kubernetes/kubelet.conf --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf)
  fi
  # The nodes of a cluster share kubelet's configuration; the group is the node's own.
  command kubelet --config=/var/lib/kubelet/config.yaml "${cluster[@]}" "--cgroup-root=/$cgroup" \
    "--hostname-override=$name" "--node-ip=$address"
}
keep kubelet >>"$folder/kubelet.log" 2>&1 </dev/null &
touch "$folder/booted"
trap : TERM CHLD
while :; do
  sleep 1000 &
  wait $! || true
done
