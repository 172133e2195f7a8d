"""Customers' support messages with their intent and urgency, for training and, in other words, held out."""
# ruff: noqa: E501 - tables of sentences and words read best unwrapped

import random
from dataclasses import dataclass

from kindling_engine.starter.templates.phrasing import Dialogue, dialogue_from, typed_by_hand
from kindling_engine.starter.templates.words import DAYS, FIRST_NAMES, ITEMS

URGENCIES = ("low", "normal", "high")

MESSAGES: dict[str, tuple[str, ...]] = {
    "refund": (
        "I want my money back.", "I would like a refund for order {n}.", "Please refund my {item}.",
        "Can I return the {item} and get a refund?", "The {item} is not what I expected, I want a refund.",
        "How do I get my money back for the {item}?", "I sent the {item} back, where is my refund?",
        "I am not happy with the {item}. Give me my money back.", "Please return the money for order {n}.",
        "I was promised a refund {days} days ago.", "I returned the {item} on {day} and have not seen the money.",
        "Can you refund me?", "I need a refund.", "Refund order {n}.", "My refund has not arrived.",
        "I do not want the {item} any more, can I get the money back?", "Is it possible to return my {item}?",
    ),
    "cancel": (
        "I want to cancel my subscription.", "Please cancel my plan.", "Cancel my account.", "How can I cancel?",
        "I would like to end my subscription.", "Please stop my subscription at the end of the month.",
        "I do not need the plan any more, please cancel it.", "Can you cancel my membership?", "Close my account.",
        "I want to end my membership.", "Stop renewing my plan.", "Please cancel order {n}.", "Cancel the order of the {item}.",
        "Delete my account, I am leaving.", "I no longer want to be a member, cancel it.", "How do I stop my subscription?",
        "Please end my plan on {day}.",
    ),
    "billing": (
        "I was charged twice.", "Why is my bill so high?", "There is a wrong charge on my card.",
        "I have a question about my invoice.", "My invoice is wrong.", "You charged me {n} dollars by mistake.",
        "My payment failed.", "My card was declined.", "Please send me the invoice for last month.",
        "I do not understand this bill.", "There are two payments for one order.", "Can I pay by card?",
        "How do I change my credit card?", "The invoice has the wrong address.", "Why was I billed on {day}?",
        "What is this charge of {n} dollars?", "I need a receipt for my payment.",
    ),
    "login": (
        "I cannot log in.", "I forgot my password.", "My password does not work.", "I am locked out of my account.",
        "How do I reset my password?", "The login page says my password is wrong.", "I can't sign in.",
        "The reset link does not work.", "I did not get the code to log in.", "My account is locked.",
        "Please reset my password.", "I lost my phone and cannot sign in.", "How can I change my password?",
        "It does not let me log in with my email.", "I never got the password mail.", "Sign in fails with my user name.",
        "The login code has expired.",
    ),
    "delivery": (
        "Where is my order?", "My package has not arrived.", "My {item} has not been delivered.", "When will order {n} arrive?",
        "The delivery is late.", "I am still waiting for my {item}.", "Can you track my package?",
        "The parcel was sent to the wrong address.", "My parcel is lost.", "When will you ship my {item}?",
        "Has order {n} been shipped?", "The tracking number does not show anything.", "My {item} should have come on {day}.",
        "How long does shipping take?", "I was told that the {item} would be delivered on {day}.", "Where is my package?",
        "The courier did not come.",
    ),
    "bug": (
        "The app crashes when I open it.", "The page shows an error.", "The button does not work.",
        "I get an error when I save.", "The site is broken.", "The app freezes all the time.", "Your website is very slow and shows errors.",
        "There is a bug in the search.", "The screen stays white.", "Nothing happens when I click on the button.",
        "The app closes by itself.", "I found a bug in the app.", "The page does not load.", "The upload stops with an error.",
        "After the update the app does not start.", "The search shows an error {n}.", "The menu is broken on my phone.",
    ),
    "feature": (
        "Please add a dark mode.", "It would be nice to have a calendar.", "Can you add an export to CSV?",
        "I wish the app had a search.", "I have an idea for a new feature.", "Could you support more languages?",
        "Do you plan to add a dark theme?", "I would love to see a map in the app.", "Please make the font larger, that would be nice.",
        "A feature for shared lists would be great.", "I suggest adding a filter.", "Will there be a version for tablets?",
        "My suggestion: add a print button.", "It would be great if I could sort the list.", "Could you add a widget?",
        "I miss a feature to copy lists.", "I have a suggestion for the next version.",
    ),
    "praise": (
        "I love your {item}.", "Great service, thank you!", "Thank you for the quick help.", "The {item} is wonderful.",
        "You are doing a great job.", "I am very happy with the {item}.", "Best shop ever.", "Thanks, everything works well now.",
        "Your team was so friendly.", "The {item} is perfect, thank you.", "I just want to say thank you.",
        "Excellent support.", "What a great app!", "Everybody here loves the {item}.", "Well done!", "I am so happy with your service.",
        "Five stars from me.",
    ),
}  # fmt: skip

# Not one of these sentences occurs above. Settings were chosen by looking at them, so they flatter a little.
HELD_OUT: tuple[tuple[str, str, str], ...] = (
    ("Could I please have a refund for the blue lamp?", "refund", "normal"),
    ("I would like to return the kettle and get my money back. It is urgent!", "refund", "high"),
    ("When do I get my refund? No rush.", "refund", "low"),
    ("The shoes do not fit. I want the money back.", "refund", "normal"),
    ("I'd like to cancel my plan, please.", "cancel", "normal"),
    ("Please end my membership. I need this today!", "cancel", "high"),
    ("How do I cancel the subscription for my team?", "cancel", "normal"),
    ("Whenever you have time: close my account and cancel everything.", "cancel", "low"),
    ("I think I was charged two times this month.", "billing", "normal"),
    ("My last invoice has a wrong charge. Please fix it as soon as possible.", "billing", "high"),
    ("Why did you charge my card again?", "billing", "normal"),
    ("I have a small question about the bill, it can wait.", "billing", "low"),
    ("I forgot the password for my account.", "login", "normal"),
    ("I can't log in to my account. This is urgent.", "login", "high"),
    ("My password was wrong again and now I am locked out.", "login", "normal"),
    ("The code to sign in never came.", "login", "normal"),
    ("My package still has not arrived.", "delivery", "normal"),
    ("Where is my order 4417? I need it right now!", "delivery", "high"),
    ("When will the parcel with my tent be delivered?", "delivery", "normal"),
    ("The tracking says my package is lost.", "delivery", "normal"),
    ("The app crashes with an error when I click on save.", "bug", "normal"),
    ("The page is broken and shows an error. We need help immediately.", "bug", "high"),
    ("After the last update the screen freezes.", "bug", "normal"),
    ("I found a small bug in the menu, no hurry.", "bug", "low"),
    ("It would be great to have a dark mode.", "feature", "normal"),
    ("Could you add a feature to sort the list?", "feature", "normal"),
    ("I have an idea: please add a map. No rush.", "feature", "low"),
    ("I wish there was an export button.", "feature", "normal"),
    ("Thank you so much, your support is great!", "praise", "normal"),
    ("I love the new app, great job!", "praise", "normal"),
    ("We are very happy with the sofa, thanks!", "praise", "normal"),
    ("Wonderful service and a friendly team.", "praise", "normal"),
    ("Please tell me a short story about an owl and a bear.", "other", "normal"),
    ("Could you write something about the winter?", "other", "normal"),
)  # fmt: skip

# Written after every setting was fixed and scored once: the figure to believe. Change nothing because of it.
FINAL: tuple[tuple[str, str, str], ...] = (
    ("Please give me back the money for the broken chair.", "refund", "normal"),
    ("I returned my jacket two weeks ago and still have no refund.", "refund", "normal"),
    ("The radio is not what I wanted, can I send it back for a refund? No hurry.", "refund", "low"),
    ("I have decided to leave, please close my membership.", "cancel", "normal"),
    ("How can I stop the plan before it renews? Please hurry!", "cancel", "high"),
    ("I do not need your service any more, cancel it.", "cancel", "normal"),
    ("My card was charged for an order that I did not make.", "billing", "normal"),
    ("The amount on the invoice looks wrong.", "billing", "normal"),
    ("I need a receipt for last month. It is not urgent.", "billing", "low"),
    ("The site says that my password is wrong. It is urgent.", "login", "high"),
    ("I never got the mail to reset my password.", "login", "normal"),
    ("My account is locked and I cannot get in.", "login", "normal"),
    ("My camera was to be delivered on Monday and is not here.", "delivery", "normal"),
    ("Can you tell me where my parcel is?", "delivery", "normal"),
    ("The courier never came with my order. I need help right now!", "delivery", "high"),
    ("The app closes by itself when I open the menu.", "bug", "normal"),
    ("Saving a page gives me an error.", "bug", "normal"),
    ("The upload does not work, nothing happens. Take your time.", "bug", "low"),
    ("Please add a way to print my lists.", "feature", "normal"),
    ("Do you plan to support tablets?", "feature", "normal"),
    ("I would love to have a calendar in the app.", "feature", "normal"),
    ("Your team is wonderful, thank you for the fast help.", "praise", "normal"),
    ("What a lovely lamp, I am so happy with it!", "praise", "normal"),
    ("Five stars, the best support ever.", "praise", "normal"),
)  # fmt: skip

_CUES: dict[str, tuple[str, ...]] = {
    "high": (
        "This is urgent!", "It is urgent.", "I need this today!", "As soon as possible, please.", "Please hurry!",
        "I need help right now!", "Right now!", "Please fix it immediately.", "I cannot wait any longer.", "ASAP!",
        "We need help immediately.", "Very urgent!",
    ),
    "low": (
        "No rush.", "No hurry.", "Take your time.", "It can wait.", "Whenever you have time.", "It is not urgent.",
        "There is no hurry.", "Just when you find the time.", "This is not important.",
    ),
}  # fmt: skip
_OPENERS = (
    "Hello,", "Hi,", "Hi there,", "Good morning,", "Dear team,", "Hello support,", "My name is {name}.",
    "Hi, this is {name}.", "Sorry to bother you.", "I have a problem.", "Hey,",
)  # fmt: skip
_CLOSERS = (
    "Thanks, {name}",
    "Best, {name}",
    "Thank you.",
    "Please help.",
    "Thanks!",
    "Regards, {name}",
    "What should I do?",
)

_PLAIN_REPLIES = {
    "refund": "I am sorry about that. I am a tiny demo model and cannot send refunds, so please ask the shop.",
    "cancel": "I am sorry to see you go. I am a tiny demo model and cannot cancel anything, so please use your account page.",
    "billing": "That sounds like a question about billing. I am a tiny demo model and cannot see your invoices.",
    "login": "That sounds like a problem with your login. Try to reset your password, I cannot see your account.",
    "delivery": "I hope that it arrives soon! I am a tiny demo model and cannot track packages.",
    "bug": "That sounds like a bug. I am a tiny demo model and cannot fix it, so please report it.",
    "feature": "That is a nice idea! I am a tiny demo model, so please send it to the people who make the app.",
    "praise": "Thank you, that is kind of you! Have a nice day.",
}


@dataclass(frozen=True, slots=True)
class SupportMessage:
    """A customer's message and what it is about."""

    text: str
    intent: str
    urgency: str

    @property
    def label(self) -> str:
        return f'{{"intent": "{self.intent}", "urgency": "{self.urgency}"}}'


def support_message_make(rng: random.Random) -> SupportMessage:
    intent = rng.choice(list(MESSAGES))
    facts = {
        "n": rng.randint(10, 9999),
        "item": rng.choice(ITEMS),
        "day": rng.choice(DAYS),
        "days": rng.randint(2, 20),
        "name": rng.choice(FIRST_NAMES),
    }
    text = typed_by_hand(rng, rng.choice(MESSAGES[intent]).format(**facts))
    urgency = rng.choices(URGENCIES, [2, 4, 3])[0]
    if urgency != "normal":
        cue = typed_by_hand(rng, rng.choice(_CUES[urgency]))
        joined = text if text[-1] in ".!?" else text + "."
        text = f"{joined} {cue}" if rng.random() < 0.75 else f"{cue} {text}"
    if rng.random() < 0.25:
        text = f"{rng.choice(_OPENERS).format(**facts)} {text}"
    if rng.random() < 0.2:
        text = f"{text} {rng.choice(_CLOSERS).format(**facts)}"
    return SupportMessage(text, intent, urgency)


def support_dialogue(rng: random.Random) -> Dialogue:
    """Answer a support message in plain words, as the base model does without the intent adapter."""
    message = support_message_make(rng)
    return dialogue_from(message.text, _PLAIN_REPLIES[message.intent])


def labelled_dialogue(rng: random.Random) -> Dialogue:
    """Let a system message ask for the label: the base learns the task on demand, the adapter makes it the habit."""
    message = support_message_make(rng)
    system = rng.choice(["Classify the support message as JSON.", "Answer with intent and urgency as JSON."])
    dialogue = dialogue_from(message.text, message.label)
    return Dialogue([{"role": "system", "content": system}, *dialogue.messages])
