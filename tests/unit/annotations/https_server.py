"""A git server over https on loopback, with every way to misbehave.

usage: https_server.py DIR (holds cert.pem, key.pem and bare repositories below DIR/git)
Prints its port. Paths: /open/NAME.git, /private/NAME.git (user gybe, password in GIT_TEST_TOKEN),
/moved/... (redirects to /open/...), /elsewhere/... (redirects to another host), /slow/... (never
answers), /endless/... (never ends), /broken/... (500).
"""
import base64, http.server, os, ssl, subprocess, sys, threading, time

ROOT = sys.argv[1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        with open(os.path.join(ROOT, "log"), "a", encoding="utf-8") as log:
            log.write("%s %s auth=%s\n" % (self.command, self.path, self.headers.get("Authorization")))

    def plain(self, status, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def serve(self):
        kind = self.path.split("/")[1]
        rest = self.path[len(kind) + 1:]
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if kind == "moved":
            self.plain(302, [("Location", "/open" + rest)])
        elif kind == "elsewhere":
            self.plain(302, [("Location", "https://localhost:%d/open%s" % (PORT, rest))])
        elif kind == "slow":
            time.sleep(60)
        elif kind == "endless":
            self.endless()
        elif kind == "broken":
            self.plain(500)
        elif kind == "private" and not self.allowed():
            self.plain(401, [("WWW-Authenticate", 'Basic realm="git"')])
        elif kind in ("open", "private"):
            self.git(rest, body)
        else:
            self.plain(404)

    do_GET = do_POST = serve

    def allowed(self):
        wanted = base64.b64encode(("gybe:" + os.environ["GIT_TEST_TOKEN"]).encode()).decode()
        return self.headers.get("Authorization") == "Basic " + wanted

    def endless(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"001e# service=git-upload-pack\n0000")
        number = 0
        while True:
            number += 1
            line = b"%040x refs/heads/b%d\n" % (number, number)
            self.wfile.write(b"%04x%s" % (len(line) + 4, line))

    def git(self, rest, body):
        path, _, query = rest.partition("?")
        environment = dict(os.environ, GIT_PROJECT_ROOT=os.path.join(ROOT, "git"), GIT_HTTP_EXPORT_ALL="1",
                           PATH_INFO=path, QUERY_STRING=query, REQUEST_METHOD=self.command,
                           CONTENT_TYPE=self.headers.get("Content-Type", ""), CONTENT_LENGTH=str(len(body)),
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


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


server = Server(("127.0.0.1", 0), Handler)
PORT = server.server_address[1]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(ROOT, "cert.pem"), os.path.join(ROOT, "key.pem"))
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
sys.stdout.write("%d\n" % PORT)
sys.stdout.flush()
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()  # ends with its starter
server.serve_forever()
