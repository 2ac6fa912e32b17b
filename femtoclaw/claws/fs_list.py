from __future__ import annotations
import os
from femtoclaw.manifest import Manifest
MANIFEST = Manifest("fs.list","1.0.0","List a folder.","filesystem",{"type":"object","properties":{"path":{"type":"string"}},"required":["path"],"additionalProperties":False},{"path":"path"},"femtoclaw.claws.fs_list:execute",True)
def execute(args, workspace, settings):
    return {"entries":sorted(os.listdir(os.path.join(workspace,args["path"])))}
