"""A TLS server in front of `git http-backend`: PORT CERTIFICATE KEY; repositories and the password are beside this file."""

import base64
import http.server
import os
import socketserver
import ssl
import subprocess
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def allowed(self):
        user = os.path.join(FOLDER, "user")
        wanted = "user"
        if os.path.exists(user):
            with open(user, encoding="utf-8") as file:
                wanted = file.read()
        with open(os.path.join(FOLDER, "password"), encoding="utf-8") as file:
            wanted += ":" + file.read()
        sent = self.headers.get("Authorization", "")
        if sent.startswith("Basic "):
            given = base64.b64decode(sent[6:]).decode()
            with open(os.path.join(FOLDER, "asked"), "a", encoding="utf-8") as file:
                file.write(given + "\n")
            return given == wanted
        return False

    def serve(self):
        if not self.allowed():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = dict(
            os.environ,
            GIT_PROJECT_ROOT=os.path.join(FOLDER, "repos"),
            GIT_HTTP_EXPORT_ALL="1",
            PATH_INFO=path,
            QUERY_STRING=query,
            REQUEST_METHOD=self.command,
            CONTENT_TYPE=self.headers.get("Content-Type", ""),
            CONTENT_LENGTH=str(len(body)),
            HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""),
            HTTP_GIT_PROTOCOL=self.headers.get("Git-Protocol", ""),
            GIT_PROTOCOL=self.headers.get("Git-Protocol", ""),
            REMOTE_USER="user",
        )
        answer = subprocess.run(["git", "http-backend"], input=body, env=environment, stdout=subprocess.PIPE, check=False)
        head, _, content = answer.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(headers.pop("Status", "200").split(" ")[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = serve
    do_POST = serve


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def shutdown_request(self, request):
        # Without a word of goodbye the answer counts as cut off.
        try:
            request.unwrap()
        except OSError:
            pass
        super().shutdown_request(request)


server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
