"""Which arguments of known programs do more than the program's name says: data for ``femtoclaw.shell_hazards``. Pure.

A row is names and a specification, words apart by blanks:

- ``+CODE``: whatever the arguments are; without arguments too.
- ``CODE=OPTION,...``: when one of these stands anywhere among the arguments. ``--name`` is met by every abbreviation of
  it and by ``--name=value``; ``-x`` in every cluster (``-vx``, ``-xVALUE``); ``-word`` by itself or with ``=``, also
  with two dashes; ``text*`` by every argument that begins so.
  In a program with ``words``, two dashes stand for one there too.
- ``valued=LETTERS``: after one of these letters a cluster has no more options. Left out in doubt: then an option may be
  seen where there is none, never the other way about.
- ``words``: one dash begins a word, not a cluster.
- ``bundle``: the first argument is a cluster even without a dash.
- ``read=NAME``: a reader of ``command_readers`` looks at the arguments too.
"""

from __future__ import annotations

_EDITOR = "+runs_program read=outside"
_BUILDER = "+folder_config +runs_program inline_code=--eval,-E,-c,-e,-p,--call"
_CONTROLS = "+acts_elsewhere +runs_program"
_COMPILER = (
    "words runs_program=-wrapper,-B*,-prefix*,-specs*,-no-integrated-as,-fno-integrated-as,-fuse-ld*,-T*,-ld-path,"
    "-fmodule-mapper*,-gcc-toolchain,-gcc-install-dir,-GCC*,-GNATBIND*,-GNATLINK*,-run loads_code=-load "
    "reads_options=@*,-config* writes_option=-o*,-M*,-save-temps*,-dumpdir,-dumpbase*,-aux-info,-fprofile*,-fdump*,"
    "-fmodules-cache-path*,-fdiagnostics-add-output*,-fopt-info*,-J*,-coverage read=compiler"
)

ROWS: tuple[tuple[str, str], ...] = (
    # Interpreters.
    ("sh bash dash zsh ksh mksh ash fish csh tcsh rbash yash", "read=interpreter inline_code=-c,--command,--init-command"),
    ("python pypy ipython jython", "read=interpreter inline_code=-c runs_program=-m valued=cmWX"),
    ("perl", "read=interpreter inline_code=-e,-E,-M,-m,-x,-p,-n,-i loads_code=-M,-m,-I,-d"),
    ("ruby jruby irb", "read=interpreter inline_code=-e,-x,-p,-n,-i loads_code=-r,-I,--require"),
    ("node nodejs deno bun", "read=interpreter inline_code=-e,-p,--eval,--print,--build-snapshot "
     "loads_code=-r,--require,--import,--loader,--experimental-loader,--openssl-config runs_program=--run,--env-file"),
    ("php", "read=interpreter inline_code=-r,-B,-R,-E,--run,--process-begin,--process-code,--process-end "
     "loads_code=-z,-d,-c,--zend-extension,--define,--php-ini opens_network=-S,--server"),
    ("lua luajit texlua", "read=interpreter inline_code=-e loads_code=-l"),
    ("tclsh wish expect", "read=interpreter inline_code=-c"),
    ("guile racket sbcl clisp ecl gosh scheme emacsclient", "read=interpreter inline_code=-c,-e,-x,--eval,--load,-l"),
    ("R Rscript octave julia ghci runghc elixir erl escript groovy scala kotlin swift dart pwsh",
     "read=interpreter inline_code=-e,-E,-r,-c,-Command,--eval,--execute,-eval"),
    ("sqlite3 psql mysql mariadb mongo mongosh redis-cli", "read=interpreter +runs_program inline_code=-cmd,-e,-c,--eval"),
    ("bc dc", "read=interpreter inline_code=-e,--expression"),
    ("awk gawk mawk nawk original-awk", "read=code runs_file=-f,-E,--file,--exec loads_code=-l,-i,--load,--include "
     "writes_option=-o,-d,-p,--pretty-print,--dump-variables,--profile"),
    ("sed ssed", "read=sed"),
    ("m4", "read=code loads_code=-m,-M,--load-module writes_option=-o,-F,--debugfile,--error-output,--freeze-state"),
    ("ed ex red", "+runs_program +inline_code read=outside"),
    ("java", "words read=interpreter loads_code=-cp,-classpath,-class-path,-javaagent*,-agentlib*,-agentpath*,-p,"
     "-module-path,-upgrade-module-path,-patch-module,-Xbootclasspath*,-D* runs_program=-XX* writes_option=-Xlog*,-Xshare* "
     "reads_options=@*"),
    ("javac jshell jar jdb", "words +runs_file loads_code=-processor*,-J*,-Xplugin*,-cp,-classpath reads_options=@* read=outside"),
    # Programs whose business is to run others.
    ("env", "read=wrapper inline_code=-S,--split-string loads_code=LD_*"),
    ("xargs", "read=wrapper reads_options=-a,--arg-file"),
    ("nice nohup timeout time setsid stdbuf ionice chrt taskset numactl prlimit setarch linux32 linux64 i386 x86_64 "
     "unshare nsenter chroot setpriv capsh strace ltrace perf valgrind ldd catchsegv rlwrap unbuffer chpst softlimit "
     "cgexec firejail bwrap proot fakeroot faketime eatmydata command exec coproc dbus-run-session dbus-launch "
     "xvfb-run ccache distcc sccache scan-build bear hyperfine entr inotifywait fswatch",
     "read=wrapper writes_option=-o,--output"),
    ("ld-linux.so ld-linux-x86-64.so ld-linux-aarch64.so ld.so ld-musl-x86_64.so ld-musl-aarch64.so",
     "read=wrapper loads_code=--preload,--library-path,--audit"),
    ("script watch", "+runs_program +inline_code read=wrapper"),
    ("flock parallel sem run-parts start-stop-daemon", "read=wrapper inline_code=-c,--command"),
    ("sudo su doas pkexec runuser sudoedit newgrp sg login setuidgid gosu su-exec", "+changes_user read=wrapper"),
    ("ssh scp sftp rsh rlogin rexec mosh autossh ssh-add ssh-agent ssh-keygen sshfs dbclient",
     "+opens_network +runs_program"),
    ("busybox toybox coreutils", "read=applet"),
    ("find gfind", "words runs_program=-exec,-execdir,-ok,-okdir deletes=-delete "
     "writes_option=-fprint,-fprint0,-fprintf,-fls reads_options=-files0-from,-newer*"),
    ("fd fdfind", "runs_program=-x,-X,--exec,--exec-batch"),
    ("split gsplit", "inline_code=--filter writes_option=--additional-suffix read=outside"),
    ("csplit", "writes_option=-f,--prefix,-b,--suffix-format read=outside"),
    ("sort gsort", "runs_program=--compress-program writes_option=-o,--output reads_options=--files0-from "
     "outside_path=-T,--temporary-directory valued=kSt"),
    ("rg", "runs_program=--pre,--hostname-bin,-z,--search-zip valued=efgtTABCmjM"),
    ("ag ack", "runs_program=--pager,--man loads_code=--ackrc"),
    ("diff3", "runs_program=--diff-program"),
    ("sdiff", "runs_program=--diff-program,-o,--output writes_option=-o,--output read=outside"),
    ("diff", "runs_program=-l,--paginate valued=CUIxXFSDW"),
    ("less more most pg man info vi vim vimdiff view rview nvim rvim gvim nano pico emacs joe mcedit mc jed kak micro "
     "top htop ftp telnet mail mailx mutt tin lynx links w3m elinks screen tmux byobu gpg-agent cscope zathura",
     f"{_EDITOR} inline_code=-c,-e,--cmd,--eval,-S,+*"),
    ("gdb lldb gdbserver", "+runs_program +inline_code"),
    # Archives.
    ("tar gtar bsdtar star", "bundle read=remote runs_program=-I,-F,--to-command,--checkpoint-action,--use-compress-program,"
     "--rsh-command,--rmt-command,--info-script,--new-volume-script,-exec,-execdir,-ok,-okdir,-compress-program,"
     "compress-program* reads_options=-T,--files-from,-X,--exclude-from,-K,@* "
     "writes_option=-c,-r,-u,-A,-g,--create,--append,--update,--catenate,--concatenate,--listed-incremental,--index-file,"
     "--volno-file,--delete "
     "outside_path=-P,--absolute-names,--absolute-paths,--insecure unpacks=-x,--extract,--get "
     "deletes=--remove-files,--delete,--recursive-unlink,--unlink-first,-U"),
    ("cpio", "read=remote runs_program=--rsh-command outside_path=--absolute-filenames,--no-absolute-filenames "
     "unpacks=-i,--extract,-p,--pass-through writes_option=-O,-F,-o,-A,--file,--create,--append reads_options=-E,--pattern-file"),
    ("pax afio", "+runs_program +writes_option unpacks=-i,-r read=remote"),
    ("zip", "+writes_option runs_program=-T,-TT*,--unzip-command,--test reads_options=-@ "
     "deletes=-m,--move,-d,--delete read=outside"),
    ("unzip funzip bsdunzip unar lha lzh unace cabextract",
     "+unpacks runs_program=--use-compress-program reads_options=@* read=outside"),
    ("rar unrar arj", "+unpacks +writes_option reads_options=@* loads_code=-sfx* read=outside"),
    ("ar", "+unpacks +writes_option +loads_code reads_options=@*,-M read=outside"),
    ("7z 7za 7zr 7zz p7zip", "+unpacks +writes_option loads_code=-sfx* reads_options=@*,-i*,-x@* read=outside"),
    ("gzip gunzip bzip2 bunzip2 xz unxz lzma unlzma zstd unzstd lz4 compress uncompress brotli",
     "+deletes +writes_option reads_options=--files,--files0,--filelist read=outside"),
    ("zcat bzcat xzcat zgrep bzgrep xzgrep zless zmore zdiff zcmp egrep fgrep", "+runs_program"),
    ("rsync", "runs_program=-e,--rsh,--rsync-path,-M,--remote-option opens_network=--daemon,--sockopts,rsync:* "
     "reads_options=--files-from,-f,--filter,--config,--exclude-from,--include-from,--read-batch "
     "writes_option=--log-file,--write-batch,--only-write-batch,--backup-dir,--temp-dir,-T,--partial-dir "
     "acts_elsewhere=--server,--sender,--copy-as deletes=--delete*,--del,--force,--remove-source-files,"
     "--remove-sent-files read=remote"),
    # Network.
    ("curl", "+opens_network writes_option=-o,-O,-D,-c,--output,--output-dir,--remote-name,--remote-name-all,"
     "--dump-header,--cookie-jar,--trace,--trace-ascii,--stderr,--etag-save,--libcurl,--hsts,--alt-svc,-w,--write-out,"
     "--ssl-sessions reads_options=-K,--config,--netrc,-n,--netrc-file,--netrc-optional "
     "loads_code=--engine,--cert-type,--key-type,--proxy-cert-type,--proxy-key-type,-E,--cert,--key,--proxy-cert,--proxy-key,"
     "pkcs11:* acts_elsewhere=--unix-socket,--abstract-unix-socket,-Q,--quote outside_path=file:*,-T,--upload-file "
     "read=outside"),
    ("wget wget2", "+opens_network +writes_option runs_program=--use-askpass "
     "loads_code=--plugin,--local-plugin,--plugin-dirs,--plugin-opt reads_options=-e,--execute,--config,-i,"
     "--input-file,--load-cookies outside_path=file:* read=outside"),
    ("nmap zenmap masscan", "+opens_network loads_code=--script,--script-args,--script-args-file,--datadir,--servicedb,"
     "--versiondb,-sC,-A,-i*,--interactive reads_options=-c,--conf,--resume "
     "writes_option=-o,--append-output,--output-filename read=outside"),
    ("nc ncat netcat", "+opens_network runs_program=-e,-c,--exec,--sh-exec,--lua-exec "
     "writes_option=-o,-x,--output,--hex-dump"),
    ("socat", "+opens_network +runs_program +writes_option"),
    ("ping traceroute tracepath dig host nslookup whois", "+opens_network reads_options=-f"),
    ("openvpn tcpdump tshark wireshark aria2c axel httpie http xh lftp rclone aws gcloud az gsutil s3cmd hub gh glab svn hg "
     "bzr cvs fossil darcs", "+opens_network +folder_config +runs_program +writes_option"),
    ("openssl", "words loads_code=-engine*,-provider*,-config,-pre,-post,-module,-keyform,-CAkeyform,pkcs11:*,"
     "org.openssl.* opens_network=http:*,https:*,-crl_download writes_option=-writerand,-outdir,-keylogfile,-signer,"
     "-CAserial,-CAcreateserial,-srpvfile read=openssl"),
    ("gpg gpg2 gpgv gpgsm", "runs_program=--agent-program,--dirmngr-program,--photo-viewer,--show-photos,"
     "--keyserver-program,--protect-tool-program,--list-options,--verify-options,--gpgconf,--exec-path,--card-edit "
     "loads_code=--load-extension reads_options=--options,--homedir "
     "writes_option=-o,--output,--status-file,--log-file,--logger-file,--attribute-file,"
     "--decrypt-files opens_network=--keyserver,--auto-key-locate,--auto-key-retrieve,--locate-keys,--recv-keys,--search-keys,"
     "--send-keys,--refresh-keys,--fetch-keys read=outside"),
    # Building: they do what files of the working folder say.
    ("git", "+folder_config read=git runs_program=--upload-pack,--receive-pack,--exec,--extcmd,--ext-diff,--textconv,"
     "--open-files-in-pager,--to-cmd,--cc-cmd,--header-cmd,--sendmail-cmd,--smtp-server,--template,--config,ext::*,fd::* "
     "writes_option=--output,--output-directory outside_path=--unsafe-paths,--separate-git-dir,--no-index,file:*"),
    ("make gmake bmake ninja samu meson scons waf bazel buck gradle gradlew mvn mvnw ant sbt lein rake just task npm npx "
     "pnpm yarn corepack pip pipx uv uvx poetry pdm hatch conda mamba tox nox pytest cargo rustup rustc rustdoc go gofmt "
     "dotnet nuget bundle bundler gem composer cabal stack mix rebar3 opam dune nix nix-shell nix-build guix brew vagrant "
     "terraform tofu ansible ansible-playbook puppet chef salt cmake ctest cpack autoconf automake autoreconf libtool "
     "configure eslint mypy prettier tsc jest webpack vite rollup pre-commit direnv asdf mise latex pdflatex xelatex lualatex "
     "tex latexmk pandoc", _BUILDER),
    ("gcc g++ cc c++ cpp c89 c99 clang clang++ clang-cpp gfortran gnat gdc gccgo tcc icc f77 f95", _COMPILER),
    ("ld gold lld ld.lld mold as nasm yasm objcopy strip ranlib", "+loads_code +writes_option reads_options=@* read=outside"),
    ("objdump nm readelf addr2line strings", "+loads_code reads_options=@* read=outside"),
    # What other processes do, outside of the claw's confinement.
    ("docker podman nerdctl ctr crictl kubectl oc helm lxc lxc-attach lxc-start runc crun machinectl virsh qemu flatpak "
     "snap systemctl systemd-run service initctl rc-service launchctl busctl gdbus dbus-send loginctl at batch crontab "
     "anacron apt apt-get aptitude dpkg rpm dnf yum zypper pacman apk emerge insmod modprobe rmmod mount umount reboot "
     "shutdown halt poweroff init telinit kexec sysctl useradd usermod userdel passwd chsh visudo iptables nft ip "
     "ifconfig route xdg-open open logger write wall", _CONTROLS),
    ("kill pkill killall skill fuser", "+acts_elsewhere"),
    # Programs that write where their arguments say.
    ("cp mv ln touch mkdir rmdir mkfifo mknod chmod chown chgrp chattr setfacl setfattr truncate fallocate link mktemp "
     "unlink", "read=outside reads_options=--files0-from"),
    ("rename rename.ul prename file-rename perl-rename", "read=renaming"),
    ("patch", "+runs_program +unpacks writes_option=-o,--output,-r,--reject-file read=outside"),
    ("install ginstall", "runs_program=-s,--strip,--strip-program read=outside"),
    ("rm shred", "+deletes read=outside"),
    ("tee sponge", "read=writes_operands"),
    ("dd", "writes_option=of=* read=outside"),
    ("uniq xxd", "read=second_operand"),
    ("shuf", "writes_option=-o,--output"),
    ("iconv pr clang-format", "writes_option=-o,--output,-i,--in-place folder_config=.* read=outside"),
    ("indent black ruff", "+folder_config +writes_option read=outside"),
    ("date", "acts_elsewhere=-s,--set valued=dfr read=clock"),
    ("hostname domainname", "acts_elsewhere=-b,-F,--boot,--file read=names_host"),
    ("wc du", "reads_options=--files0-from,-X,--exclude-from"),
    ("file", "writes_option=-C,--compile reads_options=-f,--files-from runs_program=-z,-Z,--uncompress valued=eFPm"),
)  # fmt: skip

_PLAIN_NAMES = (
    "[ arch b2sum base32 base64 basename cal cat cksum cmp col colrm column comm cut dir dirname echo expand expr factor "
    "false fmt fold getconf grep groups head hexdump hd id join jq ls lsb_release md5sum namei nl nproc numfmt od paste "
    "pathchk pinky plain printenv printf ps pwd readlink realpath rev seq sha1sum sha224sum sha256sum sha384sum sha512sum "
    "sleep stat sum tac tail test tr true tsort tty uname unexpand uptime users vdir vmstat free who whoami yes"
)
PLAIN = frozenset(_PLAIN_NAMES.split())
"""Programs none of whose options run, load or write anything; `plain` is the name to give others of that kind."""
