"""Hold the words that image configs share: what packing takes as read before each config.

The keys that Docker and OCI tools write, in the order in which they write them, and common values:
paths, environment variables, labels, steps of builds. What is rare stands first; what is in nearly
every config stands last, where it costs least to point to. Pieces that are common in the recorded
configs of the tests were tried instead, and packed worse what they were not taken from: they are
full of the names of those hosts' services. So the list is made by hand, of what the tools write.

What was packed with these words can be read with no others, so they never change: a test holds
their digest. Better ones are another list, under another format byte in `configs`.
"""

from __future__ import annotations

_RARE = (
    b'"variant":"v8","architecture":"arm64","author":"","os.version":"","os":"windows",',
    b'"moby.buildkit.buildinfo.v1":"","Healthcheck":{"Test":["CMD-SHELL","curl -f ',
    b'http://localhost/ || exit 1"],"Interval":30000000000,"Timeout":10000000000,',
    b'"StartPeriod":5000000000,',
    b'"Retries":3},"ArgsEscaped":true,"Shell":["/bin/bash","-o","pipefail","-c"],',
    b'"StopSignal":"SIGTERM","StopSignal":"SIGQUIT","StopTimeout":10,"MacAddress":"",',
    b'"NetworkDisabled":true,"Volumes":{"/data":{},"/var/lib/":{},"/var/log":{}},',
    b'"ExposedPorts":{"80/tcp":{},"443/tcp":{},"3000/tcp":{},"53/udp":{},"8443/tcp":{},',
    b'"8080/tcp":{}},"User":"1000:1000","User":"nobody","User":"root",',
    b'"Entrypoint":["docker-entrypoint.sh"],"Entrypoint":["/entrypoint.sh"],["/usr/local/bin/",',
    b'"tini","--"],"Cmd":["nginx","-g","daemon off;"],"Cmd":["python3"],["node"],["bash"],',
    b'["/usr/sbin/"],["/bin/bash"],"WorkingDir":"/app","WorkingDir":"/usr/src/app","/srv",',
    b'"DEBIAN_FRONTEND=noninteractive","TZ=UTC","LC_ALL=en_US.UTF-8","LANGUAGE=en_US:en",',
    b'"HOME=/root","JAVA_HOME=/usr/lib/jvm/","JAVA_VERSION=","NODE_VERSION=",',
    b'"NODE_ENV=production","YARN_VERSION=","GOLANG_VERSION=1.","GOTOOLCHAIN=local",',
    b'"GOPATH=/go","PATH=/go/bin:/usr/local/go/bin:","RUBY_VERSION=","PHP_VERSION=",',
    b'"NGINX_VERSION=1.","PYTHON_VERSION=3.","PYTHON_PIP_VERSION=","PYTHONUNBUFFERED=1",',
    b'"PYTHONDONTWRITEBYTECODE=1","PIP_NO_CACHE_DIR=1","GPG_KEY=","LANG=C.UTF-8",',
    b'"Labels":{"maintainer":"","org.label-schema.build-date":"","org.label-schema.license":"',
    b'","org.label-schema.name":"","org.label-schema.schema-version":"1.0",',
    b'"org.label-schema.vcs-ref":"","org.label-schema.vcs-url":"https://github.com/',
    b'","org.label-schema.vendor":"","io.buildah.version":"1.","io.k8s.description":"',
    b'","io.k8s.display-name":"","io.openshift.tags":"","com.docker.compose.project":"',
    b'","com.docker.compose.service":"","desktop.docker.io/',
    b'","org.opencontainers.image.authors":"","org.opencontainers.image.base.name":"docker.io/',
    b'library/","org.opencontainers.image.created":"","org.opencontainers.image.description":"',
    b'","org.opencontainers.image.documentation":"","org.opencontainers.image.licenses":"MIT',
    b'","org.opencontainers.image.licenses":"Apache-2.0","org.opencontainers.image.ref.name":"',
    b'","org.opencontainers.image.revision":"","org.opencontainers.image.source":"https://github.',
    b'com/","org.opencontainers.image.url":"https://","org.opencontainers.image.vendor":"',
    b'","org.opencontainers.image.version":"","org.opencontainers.image.title":"',
)
_STEPS = (
    b"set -eux; \\tapt-get update; \\tapt-get install -y --no-install-recommends ",
    b"\\t\\tca-certificates \\t\\tcurl \\t\\tgit \\t\\tgnupg \\t\\twget \\t\\txz-utils \\t; ",
    b'\\trm -rf /var/lib/apt/lists/*; \\tsavedAptMark=\\"$(apt-mark showmanual)\\"; ',
    b"\\tapt-get purge -y --auto-remove -o APT::AutoRemove::RecommendsImportant=false; ",
    b'\\tcase \\"$arch\\" in \\tdpkgArch=\\"$(dpkg --print-architecture)\\"; amd64) ;; arm64) ;; ',
    b'*) echo \\u003e\\u00262 \\"error: unsupported architecture\\"; exit 1 ;; esac; ',
    b'\\twget -O /tmp/ \\"https://\\"; \\tcurl -fsSL -o tar.gz https:// | tar -xz -C /usr/local ',
    b'--strip-components=1; \\techo \\"$SHA256 *\\" | sha256sum -c -; \\tgpg --batch --keyserver ',
    b'hkps://keys.openpgp.org --recv-keys \\"$key\\"; \\tmake -j \\"$(nproc)\\"; \\tmake install; ',
    b"\\tldconfig; \\tpython3 --version; apk add --no-cache --virtual .build-deps ",
    b"yum install -y dnf clean all pip install --no-cache-dir -r requirements.txt ",
    b"npm ci --omit=dev npm install \\u0026\\u0026 npm cache clean --force ",
    b"useradd --create-home groupadd -r adduser -D chown -R chmod +x mkdir -p /etc/ ",
    b"ln -sf /dev/stdout /var/log/ rm -rf /tmp/* /root/.cache apt-get clean ",
    b"\\u0026\\u0026 rm -rf /var/lib/apt/lists/* \\u0026\\u0026 apt-get update ",
    b"\\u0026\\u0026 apt-get install -y ",
)
_HISTORY = (
    b'"},{"created":"1970-01-01T00:00:00Z","created_by":"bazel build ","comment":"debuerreotype',
    b'","comment":"Imported from -"}],"comment":"FROM docker.io/library/',
    b'Z","created_by":"RUN |1 /bin/sh -c  # buildkit","comment":"buildkit.dockerfile.v0',
    b'","empty_layer":true},{"created":"2024-0',
    b'Z","created_by":"ENTRYPOINT [\\"/docker-entrypoint.sh\\"]","comment":"buildkit.dockerfile.v0',
    b'","empty_layer":true},{"created":"2025-1',
    b'Z","created_by":"EXPOSE map[8080/tcp:{}]","comment":"buildkit.dockerfile.v0',
    b'","empty_layer":true},{"created":"2026-0',
    b'Z","created_by":"LABEL ARG USER HEALTHCHECK ENV PATH=/usr/local/bin:/usr/local/sbin:',
    b'/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","comment":"buildkit.dockerfile.v0',
    b'","empty_layer":true},{"created":"',
    b'Z","created_by":"COPY . /app # buildkit","comment":"buildkit.dockerfile.v0"},{"created":"',
    b'Z","created_by":"WORKDIR /app","comment":"buildkit.dockerfile.v0"},{"created":"',
    b'Z","created_by":"CMD [\\"',
    b'/bin/sh -c #(nop)  HEALTHCHECK \\u0026{[\\"CMD-SHELL\\" \\"\\"] \\"30s\\" \\"10s\\" \\"0s\\"',
    b" /bin/sh -c #(nop)  ARG /bin/sh -c #(nop)  ONBUILD /bin/sh -c #(nop)  SHELL [/bin/bash -c]",
    b" /bin/sh -c #(nop)  STOPSIGNAL SIGQUIT /bin/sh -c #(nop)  MAINTAINER ",
    b"/bin/sh -c #(nop)  VOLUME [/data] /bin/sh -c #(nop)  USER /bin/sh -c #(nop)  EXPOSE 80/tcp ",
    b'/bin/sh -c #(nop) WORKDIR /bin/sh -c #(nop)  ENTRYPOINT [\\"',
    b'","empty_layer":true},{"created":"2021-0',
    b'Z","created_by":"/bin/sh -c apt-get update /bin/sh -c set -eux; "},{"created":"2023-0',
    b'Z","created_by":"/bin/sh -c #(nop)  LABEL org.opencontainers.image.',
    b'","empty_layer":true},{"created":"',
    b'Z","created_by":"/bin/sh -c #(nop)  ENV ","empty_layer":true},{"created":"',
    b'Z","created_by":"/bin/sh -c #(nop) COPY file: in /usr/local/bin/ "},{"created":"',
    b'Z","created_by":"/bin/sh -c #(nop) COPY dir: in /app "},{"created":"',
)
_FRAME = (
    b'","Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":true,',
    b'"AttachStderr":true,"Tty":true,"OpenStdin":true,"StdinOnce":false,"Env":null,"Cmd":null,',
    b'"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null},',
    b'{"architecture":"amd64","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:',
    b'/usr/bin:/sbin:/bin"],"Cmd":["/bin/sh"],"WorkingDir":"/","OnBuild":null},"created":"',
    b'{"architecture":"amd64","config":{"Hostname":"","Domainname":"","User":"",',
    b'"AttachStdin":false,"AttachStdout":false,"AttachStderr":false,',
    b'"ExposedPorts":{"80/tcp":{}},"Tty":false,',
    b'"OpenStdin":false,"StdinOnce":false,"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:',
    b'/usr/bin:/sbin:/bin","LANG=C.UTF-8"],"Cmd":["/bin/sh"],"ArgsEscaped":true,',
    b'"Image":"sha256:","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,',
    b'"Labels":null},"container":"","container_config":{"Hostname":"","Cmd":["/bin/sh","-c",',
    b'"#(nop) ","CMD [\\"/bin/sh\\"]"],"Image":"sha256:","Volumes":null,"WorkingDir":"',
    b'","Entrypoint":null,"OnBuild":null,"Labels":{}},"created":"2026-01-0',
    b'Z","docker_version":"20.10.24","history":[{"created":"2026-01-0',
    b'Z","created_by":"/bin/sh -c #(nop) ADD file: in / "},{"created":"2026-01-0',
    b'Z","created_by":"/bin/sh -c #(nop)  CMD [\\"/bin/sh\\"]","empty_layer":true},',
    b'{"created":"2026-01-0"}],"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:',
    b'Z","created_by":"/bin/sh -c ","empty_layer":true}],"os":"linux",',
    b'"rootfs":{"type":"layers","diff_ids":["sha256:","sha256:"]}}',
)
WORDS = b"".join((*_RARE, *_STEPS, *_HISTORY, *_FRAME))
