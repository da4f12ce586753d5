"""Hidden tasks of the support desk and how people phrase them."""

from dataclasses import dataclass

__all__ = ["CLOSINGS", "INTENTS", "OPENINGS", "PRODUCTS", "Intent"]


@dataclass(frozen=True)
class Intent:
    """One hidden task: its kind, what it is about, how it is asked, and a good answer in one or two sentences.

    Texts may name {order} and {product}.
    """

    key: str
    kind: str  # refund, order or policy
    topic: str
    paraphrases: tuple[str, ...]
    answer: str


OPENINGS = ("", "", "Hi! ", "Hello there. ", "Good morning. ", "Quick question. ", "Hey. ")
CLOSINGS = ("", "", " Thanks!", " Thank you.", " Please help.", " Can you sort this out?")
PRODUCTS = ("coffee grinder", "juice carafe", "granola box", "tea set", "lunchbox", "water filter")

INTENTS = (
    Intent(
        "damaged-item",
        "refund",
        "damaged item",
        (
            "my {product} arrived broken and damaged, I would like a refund for it.",
            "the {product} in order {order} came damaged. I want a refund for the broken item.",
            "I received a damaged {product}, the item is broken. Can I get a refund?",
            "broken {product} in the parcel, a damaged item again. Refund please.",
            "order {order}: the {product} was damaged and broken on arrival, please refund the item.",
        ),
        "I am sorry that the {product} arrived damaged. I have refunded it; the money is back within five days.",
    ),
    Intent(
        "double-charge",
        "refund",
        "double charge",
        (
            "I was charged twice for order {order}, my card shows a double charge.",
            "there is a double charge on my card: order {order} was charged twice.",
            "you charged my card twice for order {order}. Please return the double charge.",
            "double charge for {order}, the card was charged two times, twice the same amount.",
            "why is my card charged twice? Order {order} is a double charge.",
        ),
        "The second charge for order {order} was a mistake. I have returned it to your card.",
    ),
    Intent(
        "missing-item",
        "refund",
        "missing item",
        (
            "the {product} is missing from my delivery {order}, it was not in the box. Refund it, please.",
            "my box came without the {product}; it is missing from order {order}.",
            "missing from the box of order {order}: the {product}. I would like the missing one refunded.",
            "the {product} was not in the box, it is missing. Order {order}.",
            "one {product} missing in delivery {order}, not in the box at all.",
        ),
        "The {product} was not packed with order {order}. I have refunded it.",
    ),
    Intent(
        "subscription-billed",
        "refund",
        "cancelled subscription",
        (
            "I cancelled my subscription and was still billed this month. Give the fee back.",
            "you billed the monthly fee although my subscription was cancelled.",
            "my cancelled subscription was billed again this month, refund the monthly fee.",
            "still billed after I cancelled the subscription; I want this month's fee back.",
            "the subscription was cancelled weeks ago, why am I billed the monthly fee?",
        ),
        "Your subscription ended before this month's bill. I have returned the fee.",
    ),
    Intent(
        "wrong-item",
        "refund",
        "wrong item",
        (
            "I ordered a {product} and got something else, the wrong article. Money back please.",
            "you sent the wrong article: order {order} should have been a {product}.",
            "wrong article in order {order}. I ordered a {product} and you sent something else.",
            "something else came instead of the {product} I ordered. Wrong article, money back.",
            "instead of the {product} you sent me the wrong article, order {order}.",
        ),
        "You were sent another article than the {product} in order {order}. I have refunded it; keep what came.",
    ),
    Intent(
        "price-drop",
        "refund",
        "price difference",
        (
            "the {product} is cheaper today than when I bought it. Can you refund the price difference?",
            "price difference: I paid more for the {product} two days ago, it is cheaper now.",
            "you made the {product} cheaper a day after I bought it, I want the price difference.",
            "can I have the price difference for the {product}? It is cheaper now than in order {order}.",
            "I bought the {product} before it became cheaper. Please pay the price difference back.",
        ),
        "The price of the {product} fell within three days of order {order}. I have refunded the difference.",
    ),
    Intent(
        "where-is-parcel",
        "order",
        "parcel tracking",
        (
            "where is my parcel {order}? The tracking has not moved for days.",
            "tracking for order {order} is stuck, where is the parcel?",
            "my parcel {order} does not move in tracking. Where is it now?",
            "can you find parcel {order}? Tracking shows nothing new.",
            "the tracking of my parcel says nothing, where is order {order}?",
        ),
        "Your parcel {order} left the depot this morning and arrives tomorrow before noon.",
    ),
    Intent(
        "change-address",
        "order",
        "delivery address",
        (
            "please change the delivery address of order {order}, I moved to a new street.",
            "I moved. Can order {order} go to my new address?",
            "wrong delivery address on order {order}: please change it to the new street.",
            "change address for {order}, I moved to a new street last week.",
            "order {order} must go to my new address, I moved. Please change it.",
        ),
        "Order {order} has not been packed, so I have changed its address to the new one on your account.",
    ),
    Intent(
        "cancel-order",
        "order",
        "order cancellation",
        (
            "I want to cancel order {order} before it ships.",
            "cancel {order} please, I ordered by mistake and it has not shipped.",
            "ordered by mistake: can you cancel order {order} before it ships?",
            "please stop and cancel order {order}, it was a mistake.",
            "is it too late to cancel {order}? It has not shipped, I think.",
        ),
        "Order {order} had not shipped, so it is cancelled; nothing will be charged.",
    ),
    Intent(
        "delivery-slot",
        "order",
        "delivery slot",
        (
            "can I move the delivery slot of {order} to the evening?",
            "I am not home for the delivery slot of order {order}, is an evening possible?",
            "evening delivery for order {order}? The morning slot does not work for me.",
            "please move {order} to an evening slot, nobody is home in the morning.",
            "change the morning slot of order {order} to the evening, please.",
        ),
        "I moved order {order} to the evening slot, 18:00 to 20:00.",
    ),
    Intent(
        "invoice-copy",
        "order",
        "invoice",
        (
            "I need the invoice of order {order} as a PDF for my accountant.",
            "where do I find the PDF invoice for {order}? My accountant needs it.",
            "send me the invoice for order {order} with the tax number, as PDF.",
            "my accountant asks for a PDF invoice of order {order} with tax number.",
            "could you mail the invoice of {order}? A PDF with the tax number, please.",
        ),
        "The invoice of order {order} with your tax number is on its way to your e-mail address.",
    ),
    Intent(
        "return-window",
        "policy",
        "return window",
        (
            "how many days do I have to return unopened products?",
            "what is the return window for something unopened?",
            "until when can I return an unopened {product}? How many days?",
            "return window: how many days for unopened goods?",
            "is there a limit of days to return unopened things?",
        ),
        "Unopened products can be returned within 30 days of delivery.",
    ),
    Intent(
        "gift-card-expiry",
        "policy",
        "gift card expiry",
        (
            "does a gift card expire at some point?",
            "I found an old gift card, has it expired?",
            "when does my gift card expire? It is from last year.",
            "gift card expiry: how long is the card valid?",
            "how long is a gift card valid before it expires?",
        ),
        "Gift cards are valid for three years from the day they were bought.",
    ),
    Intent(
        "ship-abroad",
        "policy",
        "international shipping",
        (
            "do you ship abroad, to Switzerland for example?",
            "international shipping: can you ship to Norway, and what does it cost?",
            "what does international shipping cost if you ship to another country abroad?",
            "I live abroad. Do you ship international orders?",
            "can I have groceries shipped abroad, and is international shipping expensive?",
        ),
        "We ship to the European Union, not to Switzerland or Norway; shipping abroad costs 9.90 euros.",
    ),
    Intent(
        "loyalty-points",
        "policy",
        "loyalty points",
        (
            "how do loyalty points work and when can I spend them?",
            "can I pay with my loyalty points?",
            "what are my points worth? I mean the loyalty points.",
            "how do I collect and spend loyalty points?",
            "loyalty points: how many points for one euro, and how to spend them?",
        ),
        "Every euro earns one point; 100 points are worth one euro at the checkout.",
    ),
    Intent(
        "allergen-labels",
        "policy",
        "allergen labels",
        (
            "are nut allergens labelled on every product? My son has an allergy.",
            "allergy question: where do I see allergens such as nuts on the label?",
            "which label shows allergens? I have a nut allergy.",
            "how do you label allergens like nuts? It is for a child with an allergy.",
            "my child has a nut allergy, is there an allergen label on each product page?",
        ),
        "Every product page lists the fourteen main allergens, traces included, under the ingredients.",
    ),
    Intent(
        "bottle-deposit",
        "policy",
        "bottle deposit",
        (
            "how do I get the deposit back for empty bottles?",
            "where can I give back empty bottles with a deposit?",
            "bottle deposit: does the driver take empty bottles back?",
            "I have crates of empty bottles, how is the deposit paid back?",
            "does the driver collect empty deposit bottles at the door?",
        ),
        "Hand the empty bottles to the driver; the deposit is taken off your next bill.",
    ),
    Intent(
        "student-discount",
        "policy",
        "student discount",
        (
            "is there a student discount, and how do I prove that I study?",
            "I am a student at university, do you give a discount?",
            "how can a student get the discount? I have a university card.",
            "student discount: which proof of university do you need?",
            "do you have a discount for university students?",
        ),
        "Students get ten per cent off after confirming their university e-mail address once a year.",
    ),
)
