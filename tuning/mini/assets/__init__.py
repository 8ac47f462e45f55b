"""What scenes are drawn with: icons, fonts and photographs, fetched once and checked."""
