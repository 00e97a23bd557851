"""Django's ORM with its default settings, over psycopg 3."""

import datetime
import decimal
import os

import django
from django.conf import settings

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
            "NAME": os.environ["PGDATABASE"],
            "USER": os.environ["PGUSER"],
            "PASSWORD": os.environ["PGPASSWORD"],
        }
    },
    INSTALLED_APPS=["django.contrib.contenttypes"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

# pylint: disable=wrong-import-position
from django.contrib.postgres.fields import ArrayField
from django.core.management import call_command
from django.db import DataError, InternalError, ProgrammingError, connection, connections, models, transaction

import shared
from cases import case, expect_error, main, skip


class Thing(models.Model):
    number = models.IntegerField()
    name = models.TextField(null=True)
    price = models.DecimalField(max_digits=20, decimal_places=6, null=True)
    at = models.DateTimeField(null=True)
    blob = models.BinaryField(null=True)
    numbers = ArrayField(models.IntegerField(), null=True)
    json = models.JSONField(null=True)
    part_of = models.ForeignKey("self", models.CASCADE, null=True, related_name="parts")

    class Meta:
        app_label = "weir"
        db_table = "django_thing"


def one(sql, *values):
    """The first row of the SQL, for what the ORM has no words for."""
    with connection.cursor() as own:
        own.execute(sql, values)
        return own.fetchone()


def server_error(kind, state, function):
    error = expect_error(kind, function)
    assert error.__cause__.sqlstate == state, error.__cause__


@case
def connect():
    assert connection.pg_version >= 140000
    assert one("SELECT current_user::text") == ("weir",)


@case
def migrations():
    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        editor.create_model(Thing)
    tables = connection.introspection.table_names()
    assert {"django_thing", "django_content_type", "django_migrations"} <= set(tables), tables


@case
def types():
    values = {
        "number": 42,
        "name": "hé'\\",
        "price": decimal.Decimal("12345.678901"),
        "at": datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc),
        "blob": b"\x00\x01\xff",
        "numbers": [1, 2, 3],
        "json": {"a": [1, None]},
    }
    thing = Thing.objects.create(**values)
    found = Thing.objects.get(pk=thing.pk, numbers__contains=[2], json__a__0=1)
    for name, value in values.items():
        held = getattr(found, name)
        assert (bytes(held) if name == "blob" else held) == value, name
    assert Thing.objects.filter(part_of=None).aggregate(models.Sum("number")) == {"number__sum": 42}


@case
def errors():
    server_error(DataError, "22012", lambda: one("SELECT 1/%s", 0))
    server_error(ProgrammingError, "42P01", lambda: one("SELECT * FROM nowhere"))
    assert one("SELECT 1") == (1,)


@case
def transactions():
    Thing.objects.all().delete()
    with transaction.atomic():
        Thing.objects.create(number=1)
        try:
            with transaction.atomic():
                Thing.objects.create(number=2)
                one("SELECT 1/0")
        except DataError:
            pass
        with transaction.atomic():
            Thing.objects.create(number=3)
    transaction.set_autocommit(False)
    Thing.objects.create(number=4)
    server_error(DataError, "22012", lambda: one("SELECT 1/0"))
    server_error(InternalError, "25P02", lambda: one("SELECT 1"))
    transaction.rollback()
    transaction.set_autocommit(True)
    assert list(Thing.objects.order_by("number").values_list("number", flat=True)) == [1, 3]


class Client:
    """For `shared.Threaded`: Django has a connection for each thread."""

    def begin(self):
        transaction.set_autocommit(False)

    def row(self, sql, number):
        return one(sql.format("%s"), *(() if number is None else (number,)))

    def commit(self):
        transaction.commit()
        transaction.set_autocommit(True)

    def close(self):
        connections.close_all()


skip("prepared", "it prepares nothing unless told so")
skip("pipeline", "it waits for each answer")


@case
def cursor():
    Thing.objects.bulk_create(Thing(number=number) for number in range(1000, 2000))
    with transaction.atomic():
        numbers = Thing.objects.filter(number__gte=1000).values_list("number", flat=True).iterator(chunk_size=100)
        assert sum(numbers) == 1499500


skip("cancel", "a matter of the driver below")
skip("copy", "a matter of the driver below")


@case
def large():
    text, blob = "weir" * 1_000_000, bytes(range(256)) * 8192
    thing = Thing.objects.create(number=0, name=text, blob=blob)
    found = Thing.objects.get(pk=thing.pk)
    assert found.name == text and bytes(found.blob) == blob


skip("notices", "a matter of the driver below")


@case
async def rivals():
    await shared.rivals(lambda: shared.Threaded(Client))


@case
def objects_with_parts():
    with transaction.atomic():
        whole = Thing.objects.create(number=-7)
        Thing.objects.bulk_create(Thing(number=number, part_of=whole) for number in range(50))
    found = Thing.objects.prefetch_related("parts").select_for_update().filter(pk=whole.pk)
    with transaction.atomic():
        assert [part.number for part in found.get().parts.order_by("pk")] == list(range(50))
        whole.parts.update(number=models.F("number") + 1)
    assert whole.parts.aggregate(models.Sum("number")) == {"number__sum": 1275}
    assert Thing.objects.get_or_create(number=-7, defaults={"name": "seven"}) == (whole, False)


main("Django", django.__version__)
