"""The only room with Ray Data: functions that shard, join and write. No arithmetic of their own."""
