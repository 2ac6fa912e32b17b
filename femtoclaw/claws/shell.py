from __future__ import annotations
from femtoclaw.manifest import Manifest
MANIFEST = Manifest("shell","1.0.0","Run a program.","shell",{"type":"object","properties":{"bin":{"type":"string"},"argv":{"type":"array","items":{"type":"string"}}},"required":["bin"],"additionalProperties":False},{"bin":"command"},"femtoclaw.claws.shell:execute")
def execute(args, workspace, settings):
    import subprocess
    from femtoclaw.facts import resolve_binary
    r=subprocess.run([resolve_binary(args["bin"],settings["binaries"]),*args.get("argv",[])],capture_output=True,text=True,cwd=workspace)
    return {"stdout":r.stdout,"stderr":r.stderr,"status":r.returncode}
