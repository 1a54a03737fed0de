"""The demo's git server: over http on loopback, and who tells gybe of a push.

usage: demo_git.py serve DIR PORT      bare repositories below DIR; anybody may push
       demo_git.py notify URL          as a repository's post-receive hook: a delivery as GitHub sends it,
                                       signed with $DEMO_HOOK_SECRET
"""
import hashlib
import hmac
import http.server
import json
import os
import subprocess
import sys
import urllib.request
import uuid


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def serve(self):
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = dict(os.environ, GIT_PROJECT_ROOT=sys.argv[2], GIT_HTTP_EXPORT_ALL="1", PATH_INFO=path,
                           QUERY_STRING=query, REQUEST_METHOD=self.command, CONTENT_LENGTH=str(len(body)),
                           CONTENT_TYPE=self.headers.get("Content-Type", ""), REMOTE_USER="olivia",
                           HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""))
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = serve


def notify(url):
    before, after, ref = sys.stdin.readline().split()
    body = json.dumps({"ref": ref, "before": before, "after": after, "deleted": False,
                       "pusher": {"name": "olivia"}, "sender": {"login": "olivia"},
                       "repository": {"full_name": "acme/orders"}}).encode()
    signature = hmac.new(os.environ["DEMO_HOOK_SECRET"].encode(), body, hashlib.sha256).hexdigest()
    request = urllib.request.Request(url, body, {
        "Content-Type": "application/json", "X-GitHub-Event": "push", "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": "sha256=" + signature})
    with urllib.request.urlopen(request, timeout=30) as answer:
        print(f"gybe answered {answer.status}: {answer.read().decode().strip()}")


if sys.argv[1] == "serve":
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[3])), Handler).serve_forever()
else:
    notify(sys.argv[2])
