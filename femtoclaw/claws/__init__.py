"""The shipped claws. Importing this loads their manifests; their code runs in processes of their own."""

from __future__ import annotations

from femtoclaw.claws.fs_list import MANIFEST as FS_LIST
from femtoclaw.claws.fs_read import MANIFEST as FS_READ
from femtoclaw.claws.fs_write import MANIFEST as FS_WRITE
from femtoclaw.claws.process_list import MANIFEST as PROCESS_LIST
from femtoclaw.claws.shell import MANIFEST as SHELL
from femtoclaw.claws.system_info import MANIFEST as SYSTEM_INFO
from femtoclaw.claws.web_get import MANIFEST as WEB_GET

SHIPPED = (FS_LIST, FS_READ, FS_WRITE, PROCESS_LIST, SHELL, SYSTEM_INFO, WEB_GET)
