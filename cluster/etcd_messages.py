"""The messages of etcd's version 3 interface that are used here, and no others.

The field numbers are etcd's public wire contract; names are ours where only we read them. The classes are built from this
table on import, in a pool of their own: nothing is generated that could be stale or ask for one version of protobuf, and
nothing collides with another etcd client in the same process. Fields have explicit presence (proto2), so that a zero which
was set is sent: a comparison with version 0 says so. Choices among fields (etcd's oneof) are the sender's care; fields
that are not listed are skipped by the parser.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "femtoclaw.etcd"

COMPARE_EQUAL = 0
COMPARE_VERSION, COMPARE_CREATE_REVISION = 0, 1

SCHEMA = {
    "Header": "cluster_id:1:uint64 revision:3:int64",
    "KeyValue": "key:1:bytes create_revision:2:int64 mod_revision:3:int64 version:4:int64 value:5:bytes lease:6:int64",
    "RangeRequest": "key:1:bytes",
    "RangeResponse": "header:1:Header kvs:2:KeyValue*",
    "PutRequest": "key:1:bytes value:2:bytes lease:3:int64",
    "Compare": "result:1:int32 target:2:int32 key:3:bytes version:4:int64 create_revision:5:int64",
    "Operation": "range:1:RangeRequest put:2:PutRequest",
    "Outcome": "range:1:RangeResponse",
    "TxnRequest": "compare:1:Compare* success:2:Operation* failure:3:Operation*",
    "TxnResponse": "header:1:Header succeeded:2:bool responses:3:Outcome*",
    "LeaseGrantRequest": "ttl:1:int64",
    "LeaseGrantResponse": "header:1:Header id:2:int64 ttl:3:int64 error:4:string",
    "LeaseRevokeRequest": "id:1:int64",
    "LeaseRevokeResponse": "header:1:Header",
    "LeaseKeepAliveRequest": "id:1:int64",
    "LeaseKeepAliveResponse": "header:1:Header id:2:int64 ttl:3:int64",
    "WatchCreate": "key:1:bytes start_revision:3:int64",
    "WatchRequest": "create:1:WatchCreate",
    "Event": "type:1:int32",
    "WatchResponse": "header:1:Header created:3:bool canceled:4:bool compact_revision:5:int64 cancel_reason:6:string "
    "events:11:Event*",
    "StatusRequest": "",
    "StatusResponse": "header:1:Header version:2:string",
    "AuthenticateRequest": "name:1:string password:2:string",
    "AuthenticateResponse": "header:1:Header token:2:string",
}
"""Message name to fields ``name:number:type``, a star for repeated ones."""


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="femtoclaw/etcd.proto", package=PACKAGE, syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for entry in fields.split():
            label, number, kind = entry.split(":")
            repeated, kind = kind.endswith("*"), kind.rstrip("*")
            field = message.field.add(name=label, number=int(number))
            field.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind in SCHEMA:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
            else:
                field.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in SCHEMA}


MESSAGES: dict[str, Any] = _build()


def message(kind: str, /, **fields: Any) -> Any:
    """A message of the table with these fields set."""
    return MESSAGES[kind](**fields)
