"""A git server over ssh on loopback: the real sshd, one process a connection, as an unprivileged user.

usage: ssh_server.py REPOSITORY (bare). Prints "PORT DIR". DIR holds repository.git, the key `client` that is
let in, the key `stranger` that is not, `known_hosts` with the host's key, and the host's public keys. Ends,
and takes DIR away, when its stdin is closed.
"""
import os, pwd, shutil, socket, subprocess, sys, tempfile, threading

dir = tempfile.mkdtemp(prefix="gybe-ssh-test-", dir="/tmp")
repository = os.path.join(dir, "repository.git")
shutil.copytree(sys.argv[1], repository)
if os.geteuid() == 0:
    user = pwd.getpwnam("postgres")
    for place, _, files in os.walk(dir):
        for name in [place] + [os.path.join(place, file) for file in files]:
            os.chown(name, user.pw_uid, user.pw_gid)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
user = pwd.getpwuid(os.geteuid())

server = socket.create_server(("127.0.0.1", 0))
port = server.getsockname()[1]


def key(name, kind):
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", os.path.join(dir, name)], check=True)


for name, kind in (("host", "ed25519"), ("host_ecdsa", "ecdsa"), ("client", "ed25519"), ("stranger", "rsa")):
    key(name, kind)
shutil.copy(os.path.join(dir, "client.pub"), os.path.join(dir, "authorized_keys"))
with open(os.path.join(dir, "host.pub"), encoding="utf-8") as file:
    host_key = " ".join(file.read().split()[:2])
with open(os.path.join(dir, "known_hosts"), "w", encoding="utf-8") as file:
    file.write("# of tests\n[127.0.0.1]:%d %s\n" % (port, host_key))
with open(os.path.join(dir, "sshd_config"), "w", encoding="utf-8") as file:
    for line in ("HostKey %s/host", "HostKey %s/host_ecdsa", "AuthorizedKeysFile %s/authorized_keys"):
        file.write(line % dir + "\n")
    file.write("StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
               "AllowUsers %s\nPidFile none\n" % user.pw_name)

sys.stdout.write("%d %s %s\n" % (port, dir, user.pw_name))
sys.stdout.flush()


def leave():
    sys.stdin.read()
    shutil.rmtree(dir, ignore_errors=True)
    os._exit(0)


threading.Thread(target=leave, daemon=True).start()
while True:
    connection, _ = server.accept()
    with connection, open(os.path.join(dir, "log"), "ab") as log:
        subprocess.Popen(["/usr/sbin/sshd", "-i", "-e", "-f", os.path.join(dir, "sshd_config")],
                         stdin=connection, stdout=connection, stderr=log, cwd="/")
