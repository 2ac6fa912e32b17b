"""Stopgap isolation."""

from __future__ import annotations
import json, subprocess, sys, time
from typing import Any, NamedTuple

class Outcome(NamedTuple):
    status: str
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    exit_status: int | None
    started_ns: int
    ended_ns: int
    original_bytes: int
    kept_bytes: int
    output_digest: str

class Isolation:
    def __init__(self, workspace): self.workspace=workspace
    def run(self, manifest, args, settings, *, idempotency_key=""):
        t=time.time_ns()
        mod,fn=manifest.entry.split(":")
        code=f"import sys,json; sys.path[:0]={sys.path!r}; import {mod} as m; a=json.load(sys.stdin); print(json.dumps(m.{fn}(*a)))"
        r=subprocess.run([sys.executable,"-c",code],input=json.dumps([args,self.workspace,settings]),capture_output=True,text=True)
        e=time.time_ns()
        if r.returncode: return Outcome("error",None,{"class":"ExecutionError","message":"failed"},r.returncode,t,e,0,0,"")
        return Outcome("success",json.loads(r.stdout),None,0,t,e,len(r.stdout),len(r.stdout),"")
    def layers(self): return {}
    def close(self): pass
