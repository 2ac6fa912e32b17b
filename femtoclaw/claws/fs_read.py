from __future__ import annotations
import os
from femtoclaw.manifest import Manifest
MANIFEST = Manifest("fs.read","1.0.0","Read a file.","filesystem",{"type":"object","properties":{"path":{"type":"string"}},"required":["path"],"additionalProperties":False},{"path":"path"},"femtoclaw.claws.fs_read:execute",True)
def execute(args, workspace, settings):
    with open(os.path.join(workspace,args["path"])) as f: return {"content":f.read()}
