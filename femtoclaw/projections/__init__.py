"""The five stores as indexed projections of the log: execution log, audit log, telemetry, configuration, metadata.

They hold nothing that the log does not: delete the file and it is rebuilt to equal content. They lag behind the log, and
are caught up before every query and at no other time, so that no index and no telemetry line sits in the path of a
durable commit or of a stop. SQLite keeps them because its file may be damaged or deleted at no loss.
"""
