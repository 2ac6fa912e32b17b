from __future__ import annotations
import os
from femtoclaw.manifest import Manifest
MANIFEST = Manifest("fs.write","1.0.0","Write a file.","filesystem",{"type":"object","properties":{"path":{"type":"string"},"content":{"type":"string"},"mode":{"enum":["create","replace","append"],"type":"string"}},"required":["path","content"],"additionalProperties":False},{"path":"path"},"femtoclaw.claws.fs_write:execute")
def execute(args, workspace, settings):
    with open(os.path.join(workspace,args["path"]),"w") as f: f.write(args["content"])
    return {"bytes":len(args["content"])}
