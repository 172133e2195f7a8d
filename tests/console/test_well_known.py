"""Addresses that programs ask any site for."""

from django.test import Client

from kindling_console_world import Member


def test_a_picture_and_the_rules_for_crawlers_are_where_they_are_looked_for(client: Client):
    picture = client.get("/favicon.ico")
    assert picture.status_code == 302 and "/console/mark" in picture["Location"]
    robots = client.get("/robots.txt")
    assert robots["Content-Type"].startswith("text/plain")
    assert robots.content.decode().splitlines()[-1] == "Disallow: /"


def test_password_managers_are_led_to_the_form(member: Member, client: Client):
    address = "/.well-known/change-password"
    led = member.client.get(address, follow=True)
    assert led.status_code == 200 and 'name="oldpassword"' in led.content.decode()
    asked_to_sign_in = client.get(address, follow=True)
    assert asked_to_sign_in.redirect_chain[-1][0].startswith("/accounts/login/")
