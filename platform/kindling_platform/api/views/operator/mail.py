"""The outbox: letters about money and budgets, which of them wait or were refused, and sending them again."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.api.asked import choice_asked
from kindling_platform.api.caller import caller_of
from kindling_platform.api.operator_shapes.mail import (
    OneLetterShape,
    OutboxShape,
    letter_row,
    one_letter_row,
)
from kindling_platform.common.kept_mail import kept_folder
from kindling_platform.records.letters import SHOWN, STATES, letter_get, letter_list, letter_retry

STATE = OpenApiParameter("state", str, enum=list(STATES), description="Only those in this state.")


class Outbox(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_mail_list",
        summary=f"The newest {SHOWN} letters of the outbox",
        parameters=[STATE],
        responses=OutboxShape,
    )
    def get(self, request: Request) -> Response:
        letters = letter_list(state=choice_asked(request, "state", STATES))
        answer = {"is_kept": kept_folder() is not None, "data": [letter_row(one) for one in letters]}
        return Response(OutboxShape(answer).data)


class OneLetter(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(operation_id="operator_mail_get", summary="One letter", responses=OneLetterShape)
    def get(self, request: Request, letter_id: str) -> Response:
        return Response(OneLetterShape(one_letter_row(letter_get(letter_id=letter_id))).data)


class LetterRetry(APIView):
    actions = {"POST": "operator.write"}

    @extend_schema(
        operation_id="operator_mail_retry",
        summary="Send a letter again that was refused, or one that waits sooner; a repeat does no harm",
        request=None,
        responses={202: OneLetterShape},
    )
    def post(self, request: Request, letter_id: str) -> Response:
        letter = letter_retry(letter_id=letter_id, actor=caller_of(request).actor)
        return Response(OneLetterShape(one_letter_row(letter)).data, status=202)
