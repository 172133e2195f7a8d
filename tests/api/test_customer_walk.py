"""A customer over real HTTP: sign up by the form, make a key, look around, upload."""

import pytest

from kindling_engine.starter import ADAPTER_PATHS
from kindling_people import make_model, make_operator
from kindling_tenant import ADAPTER_FILES, Tenant

pytestmark = pytest.mark.django_db(transaction=True)


def test_from_the_form_to_an_adapter_that_waits_for_its_checks(live_server):
    make_model(make_operator())
    tenant = Tenant.sign_up(live_server.url, "walker@example.test")
    try:
        assert tenant.slug == "walker"
        assert tenant.balance_picousd() == 10**12
        assert [row["ref"] for row in tenant.api("GET", "/api/v1/models")["data"]] == ["kindling/spark"]
        folder = ADAPTER_PATHS["intent"]
        files = [{"name": name, "size_bytes": (folder / name).stat().st_size} for name in ADAPTER_FILES]
        body = {"name": "intent", "base_model": "kindling/spark", "files": files}
        adapter = tenant.api("POST", "/api/v1/adapters", body)
        for name in ADAPTER_FILES:
            put = tenant.http.put(
                f"/api/v1/adapters/{adapter['id']}/files/{name}",
                content=(folder / name).read_bytes(),
                headers={"Authorization": f"Bearer {tenant.key}"},
            )
            assert put.status_code == 200, put.text
        tenant.api("POST", f"/api/v1/adapters/{adapter['id']}/complete")
        assert tenant.api("GET", f"/api/v1/adapters/{adapter['id']}")["state"] == "validating"
    finally:
        tenant.http.close()
