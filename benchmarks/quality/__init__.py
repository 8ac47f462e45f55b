"""How often a bundle is right, by kind of question and by mode of answering."""
