"""Sends an SMS through the broker, retries safely, and waits for the delivery report.

    pip install -r requirements.txt
    python -m grpc_tools.protoc -I ../../proto --python_out=. --grpc_python_out=. \
        acsbroker/v1/message.proto acsbroker/v1/chat.proto acsbroker/v1/sms.proto acsbroker/v1/event.proto
    python send_sms.py +14255550123
"""

import sys
import time
import uuid

import grpc

from acsbroker.v1 import event_pb2, event_pb2_grpc, message_pb2, sms_pb2, sms_pb2_grpc


def main(to: str = "+14255550123", server: str = "127.0.0.1:50051") -> None:
    with grpc.insecure_channel(server) as channel:
        # Watch before sending, so that the report cannot come too early.
        watch = event_pb2.WatchEventsRequest(kinds=[event_pb2.EVENT_KIND_SMS_DELIVERY])
        events = event_pb2_grpc.EventServiceStub(channel).WatchEvents(watch)
        events.initial_metadata()

        # One id for all tries: however often this is repeated, one SMS goes out.
        request = sms_pb2.SendSmsRequest(
            request_id=str(uuid.uuid4()),
            to=[to],
            text="Your order is on its way.",
            enable_delivery_report=True,
            tag="order-4711",
        )
        sent = send(sms_pb2_grpc.SmsServiceStub(channel), request)
        for outcome in sent.outcomes:
            print(outcome.to, message_pb2.MessageState.Name(outcome.state))
        for told in events:
            delivery = told.sms_delivery
            if delivery.sms_id == sent.sms_id:
                print(delivery.to, message_pb2.MessageState.Name(delivery.state))
                break
        events.cancel()


def send(sms: sms_pb2_grpc.SmsServiceStub, request: sms_pb2.SendSmsRequest) -> sms_pb2.SendSmsResponse:
    while True:
        try:
            return sms.SendSms(request, timeout=15)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED):
                raise
            print("not yet:", error.details())
            time.sleep(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
