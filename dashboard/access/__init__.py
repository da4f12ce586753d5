"""Sign-in: who acts in a session, what their role lets them do, and the gate before every page."""
