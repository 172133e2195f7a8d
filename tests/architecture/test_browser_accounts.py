"""All browser tests share one stack, so each signs up with addresses of its own."""

import re
from collections import Counter
from pathlib import Path

E2E = Path(__file__).resolve().parents[1] / "e2e"
ADDRESS = re.compile(r'sign_up(?:_on_the_page)?\(\s*"([^"{]+)"')


def test_no_two_browser_tests_sign_up_with_one_address():
    used = Counter(address for path in E2E.glob("*.py") for address in ADDRESS.findall(path.read_text()))
    assert len(used) > 20
    assert [address for address, times in used.items() if times > 1] == []
