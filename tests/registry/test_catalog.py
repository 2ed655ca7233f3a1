"""The catalog on SQLite and on PostgreSQL, and its migrations."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from registry.catalog import SqlCatalog, migrations
from registry.catalog.engine import open_engine, writing
from registry.catalog.schema import REVISION, events, metadata, targets
from registry.errors import DamagedCatalog, InvalidSetting, ReadOnlyRegistry
from registry.versions import Query
from tests.builders import tiny
from tests.contracts.catalog import CatalogContract, promote, register


class SqlCatalogContract(CatalogContract):
    """What every SQL catalog keeps to; inherit, and provide the fixture ``url`` of an empty database."""

    @pytest.fixture
    def catalog(self, url: str) -> Iterator[SqlCatalog]:
        catalog = SqlCatalog.open(url)
        yield catalog
        catalog.close()

    @pytest.mark.parametrize("statement", [events.update().values(actor="eve"), events.delete()])
    def test_events_are_append_only(self, catalog: SqlCatalog, url: str, statement: sa.Executable) -> None:
        register(catalog, tiny())
        engine = open_engine(url)
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), engine.begin() as connection:
            connection.execute(statement)
        engine.dispose()
        assert [event.actor for event in catalog.events("digits")] == ["ada"]

    def test_what_was_registered_is_there_after_a_restart(self, catalog: SqlCatalog, url: str) -> None:
        version = register(catalog, tiny())
        again = SqlCatalog.open(url)
        assert again.find(Query(), 10) == [version]
        again.close()

    def test_the_migrations_lead_to_the_schema_and_back(self, url: str) -> None:
        engine = open_engine(url)
        migrations.upgrade(engine)
        assert migrations.current(engine) == REVISION
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        with writing(engine).begin() as connection:
            migrations.migrate(connection, "base")
        with engine.connect() as connection:
            assert set(sa.inspect(connection).get_table_names()) <= {"alembic_version"}
        migrations.upgrade(engine)
        with engine.connect() as connection:
            assert connection.execute(sa.select(targets)).all() == []
        engine.dispose()

    def test_a_catalog_from_before_tokens_keeps_what_it_has(self, url: str) -> None:
        catalog = SqlCatalog.open(url)
        version = register(catalog, tiny())
        catalog.close()
        engine = open_engine(url)
        with writing(engine).begin() as connection:
            migrations.migrate(connection, "0001")
        engine.dispose()
        catalog = SqlCatalog.open(url)
        assert catalog.find(Query(), 10) == [version]
        assert (catalog.position(), catalog.token_changes(), catalog.tokens()) == (1, 0, [])
        catalog.close()

    def test_a_catalog_from_before_stage_events_were_counted_goes_on(self, url: str) -> None:
        catalog = SqlCatalog.open(url)
        version = register(catalog, tiny(seed=1))
        moved = promote(catalog, version)
        register(catalog, tiny(seed=2))
        identity = catalog.identity()
        catalog.close()
        engine = open_engine(url)
        with writing(engine).begin() as connection:
            migrations.migrate(connection, "0003")
        engine.dispose()
        catalog = SqlCatalog.open(url)
        assert (catalog.stage_position(), catalog.position()) == (moved, 3)
        assert promote(catalog, version, "staging") == catalog.stage_position() == 4
        assert catalog.identity().id == identity.id
        catalog.close()

    def test_a_catalog_of_a_newer_program_is_refused(self, catalog: SqlCatalog, url: str) -> None:
        engine = open_engine(url)
        with writing(engine).begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        engine.dispose()
        with pytest.raises(InvalidSetting, match="update this program"):
            SqlCatalog.open(url)

    def test_several_processes_may_open_it_for_the_first_time_at_once(self, url: str) -> None:
        script = (
            "import sys; from registry.catalog import SqlCatalog; print('up', flush=True); sys.stdin.readline(); "
            "catalog = SqlCatalog.open(sys.argv[1]); print(catalog.position()); catalog.close()"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        assert [process.communicate()[0] for process in processes] == ["0\n"] * 4
        assert [process.returncode for process in processes] == [0] * 4


class TestSqlite(SqlCatalogContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'new' / 'catalog.sqlite'}"

    def test_it_is_set_up_to_survive_a_power_cut(self, catalog: SqlCatalog, url: str) -> None:
        engine = open_engine(url)
        with engine.connect() as connection:
            found = {
                name: connection.execute(sa.text(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            }
        engine.dispose()
        assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}

    def test_a_damaged_file_is_a_failure_in_words(self, catalog: SqlCatalog, url: str) -> None:
        catalog.close()
        path = Path(url.removeprefix("sqlite:///"))
        path.write_bytes(b"not a database" * 1000)
        with pytest.raises(DamagedCatalog, match="not a database"):
            SqlCatalog.open(url)

    @pytest.mark.parametrize(
        "url", ["sqlite://", "sqlite:///:memory:", "sqlite:////proc/nowhere/catalog.sqlite"]
    )
    def test_a_place_that_cannot_be_is_refused(self, url: str) -> None:
        with pytest.raises(InvalidSetting):
            SqlCatalog.open(url)


class TestPostgresql(SqlCatalogContract):
    @pytest.fixture
    def url(self, postgres: Callable[[], str]) -> str:
        return postgres()

    @pytest.mark.parametrize("how", ["privilege", "transaction"])
    def test_an_account_that_may_only_read_reads_and_says_so_when_it_should_write(
        self, catalog: SqlCatalog, url: str, how: str
    ) -> None:
        version = register(catalog, tiny())
        name = f"reader_{sa.make_url(url).database}_{how}"
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
            granted = "SELECT" if how == "privilege" else "ALL"
            connection.exec_driver_sql(f"GRANT {granted} ON ALL TABLES IN SCHEMA public TO {name}")
            if how == "transaction":
                connection.exec_driver_sql(f"ALTER ROLE {name} SET default_transaction_read_only = on")
        catalog.check_writable()
        reader = SqlCatalog.open(sa.make_url(url).set(username=name).render_as_string())
        assert reader.find(Query(), 10) == [version]
        assert reader.identity() == catalog.identity()
        for write in (reader.check_writable, reader.raise_epoch, lambda: promote(reader, version)):
            with pytest.raises(ReadOnlyRegistry, match="may write there"):
                write()
        with engine.begin() as connection:
            migrations.migrate(connection, "0002")
        with pytest.raises(ReadOnlyRegistry, match="at migration 0002"):
            SqlCatalog.open(sa.make_url(url).set(username=name).render_as_string())
        reader.close()


def test_the_schema_names_the_newest_migration() -> None:
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert script.get_current_head() == REVISION
