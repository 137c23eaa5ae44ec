"""A real S3 server on this machine (moto's), its buckets in memory."""

from pathlib import Path

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


class Bucket:
    """One bucket, looked at and changed as by others."""

    def __init__(self, endpoint: str, name: str) -> None:
        import boto3

        self.name, self.endpoint = name, endpoint
        self.s3 = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        )
        self.s3.create_bucket(Bucket=name)

    def put(self, key: str, file: Path) -> None:
        self.s3.put_object(Bucket=self.name, Key=key, Body=file.read_bytes())

    def put_folder(self, prefix: str, folder: Path) -> None:
        for file in sorted(folder.rglob("*.*")):
            self.put(f"{prefix}/{file.relative_to(folder).as_posix()}", file)

    def delete(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.name, Key=key)

    def listed(self) -> list[str]:
        return [o["Key"] for o in self.s3.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def modified(self, key: str) -> object:
        return self.s3.head_object(Bucket=self.name, Key=key)["LastModified"]

    def bytes(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.name, Key=key)["Body"].read()
